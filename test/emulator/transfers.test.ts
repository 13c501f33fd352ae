import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { expect, test } from "@jest/globals";
import { nativePath } from "../../lib/native.js";
import { runChild } from "../support/child.js";

const child = (name: string): URL => new URL(`children/${name}.ts`, import.meta.url);

// transfers/transfers.cpp says what each of them checks.
test("transfers hold no more than they need, and nothing once a call of CUDA has failed", () => {
  const program = join(dirname(nativePath()), "emulator_transfers");
  const lines = execFileSync(program, { encoding: "utf8" }).trim().split("\n");
  expect(lines).toEqual([
    "cudaMallocHost: ok",
    "cudaEventCreateWithFlags: ok",
    "cudaMemcpyAsync: ok",
    "cudaLaunchHostFunc: ok",
    "cudaEventRecord: ok",
    "refused upload: ok",
    "refused upload in pieces: ok",
    "refused download: ok",
    "refused download in pieces: ok",
    "much at once: ok",
    "closing: ok",
  ]);
});

test("large tensors arrive bit for bit, in workers as well", async () => {
  const { code, stdout, stderr } = await runChild(child("large-transfers"));
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "same same\n".repeat(3), stderr: "" });
});

test("a refused download throws, and nothing waits for it", async () => {
  const env = { HYPERROUTER_EMULATOR_REFUSE: "cudaMemcpyAsync" };
  const { code, stdout, stderr } = await runChild(child("refused-download"), { env });
  expect({ code, stdout, stderr }).toEqual({
    code: 0,
    stdout: expect.stringMatching(/^cuda: invalid argument.*\nFloat32Array\(3\) \[ 0, 0, 0 \]\n$/s),
    stderr: "",
  });
});
