import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, jest, test } from "@jest/globals";
import { type ChildResult, runChild } from "../support/child.js";

// Processes take long to start on a busy machine.
jest.setTimeout(120_000);

const child = (name: string, options: Parameters<typeof runChild>[1] = {}): Promise<ChildResult> =>
  runChild(new URL(`children/${name}.ts`, import.meta.url), options);

describe("worker threads", () => {
  test("two workers that compute at once get the same result", async () => {
    const { code, stdout, stderr } = await child("two-workers");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [first, second] = stdout.trim().split("\n");
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    expect(second).toBe(first);
  });

  test("workers that are terminated with a full queue leave no trace", async () => {
    const { code, signal, stdout, stderr } = await child("terminated-workers");
    expect({ code, signal, stdout, stderr }).toEqual({
      code: 0,
      signal: null,
      stdout: "10 terminated; 7 10 15 22\n",
      stderr: "",
    });
  });
});

describe("the process ends while ops are queued", () => {
  test("process.exit() exits at once with its code", async () => {
    expect(await child("ends-early", { args: ["exit"] })).toEqual({
      code: 7,
      signal: null,
      stdout: "",
      stderr: "",
    });
  });

  test("returning delivers what was promised", async () => {
    const result = await child("ends-early", { args: ["return"] });
    expect(result).toEqual({ code: 0, signal: null, stdout: "..........", stderr: "" });
  });

  test("an uncaught error is shown as such", async () => {
    const { code, signal, stderr } = await child("ends-early", { args: ["throw"] });
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr).toContain("thrown while ops are queued");
  });
});

describe("tensors", () => {
  test("the garbage collector reclaims leaked ones, and they are counted", async () => {
    const { code, stdout, stderr } = await child("collected-tensors", { flags: ["--expose-gc"] });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { before, after } = JSON.parse(stdout) as Record<"before" | "after", Record<string, number>>;
    expect(before).toMatchObject({ tensors: 20, reclaimedByGc: 0 });
    expect(after).toMatchObject({ tensors: 0, reclaimedByGc: 20, liveBytes: 0 });
  });

  test("HYPERROUTER_DEBUG=tensors names where a disposed tensor was made", async () => {
    const { code, stdout } = await child("debug-tensors", { env: { HYPERROUTER_DEBUG: "tensors" } });
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^DisposedTensorError: f32 tensor \[2, 3\] \(created at makeTensor \(.*debug-tensors\.ts:7:\d+\)\)/,
    );
    expect(stdout).toContain("fix: return it from scope(), keep() it, or do not dispose it yet");
  });

  test("without it the message says how to find out", async () => {
    const { stdout } = await child("debug-tensors", { env: { HYPERROUTER_DEBUG: "" } });
    expect(stdout).toContain("set HYPERROUTER_DEBUG=tensors to see where it was created");
  });
});

// Limits on processes do not bind the superuser: the child runs as nobody, where that is possible.
const asNobody = ["setpriv", "--reuid=65534", "--clear-groups"];
const script = fileURLToPath(new URL("children/refused-threads.ts", import.meta.url));
const canLimit =
  process.getuid?.() === 0 &&
  spawnSync(asNobody[0] ?? "", [...asNobody.slice(1), "test", "-r", script]).status === 0;
if (!canLimit) console.warn("skipped: refused threads need root, setpriv and sources that anyone may read");

(canLimit ? test : test.skip)("threads that the system refuses are an error", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const command = 'ulimit -u 40; exec "$0" --import ./scripts/typescript.mjs "$1"';
  const { status, stdout, stderr } = spawnSync(
    asNobody[0] ?? "",
    [...asNobody.slice(1), "bash", "--norc", "-c", command, process.execPath, script],
    { cwd: root, encoding: "utf8" },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual({ refused: ["DeviceError", "DeviceError"], sum: [1, 2] });
});
