import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, jest, test } from "@jest/globals";

import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import { readMetrics } from "../../lib/train/metrics-file.js";
import { runCommand, startCommand, tinyConfigFile } from "../support/command.js";
import { tinyText } from "../support/tiny-run.js";

jest.setTimeout(60_000);

const newFolder = (): Promise<string> => mkdtemp(join(tmpdir(), "hyperrouter-"));
/** Steps in which a second passes. */
const slow = {
  model: { dModel: 256, dInner: 512, numLayers: 4 },
  train: { batchSize: 32, seqLen: 64, steps: 999 },
};

describe("Ctrl-C", () => {
  test("finishes the step, writes a checkpoint and says how to resume, bit for bit", async () => {
    const config = await tinyConfigFile({ train: { steps: 100_000, lrSchedule: "constant" } });
    const cwd = await newFolder();
    const running = startCommand(["train", config, "--out", "run"], cwd);
    await running.printed(/tok\/s/);
    running.child.kill("SIGINT");
    const { status, stdout, stderr } = await running.ended;
    expect(status).toBe(130);
    expect(stderr).toMatch(/Stopping after this step, with a checkpoint; Ctrl-C again stops at once/);
    const step = Number(/stopped after step (\d+); checkpoint: run\/checkpoints\/step-\d+/.exec(stdout)?.[1]);
    expect(await new CheckpointFolder(join(cwd, "run", "checkpoints")).steps()).toContain(step);
    const resume = /go on with: npx hyperrouter (resume run)$/m.exec(stdout)?.[1]?.split(" ") ?? [];

    const steps = ["--set", `train.steps=${step + 20}`];
    const [resumed, whole] = await Promise.all([
      runCommand([...resume, ...steps], cwd),
      runCommand(["train", config, "--out", "whole", ...steps], cwd),
    ]);
    expect(resumed).toMatchObject({ status: 0, stderr: "" });
    expect(resumed.stdout).toContain(`resumed after step`);
    const results = (text: string): string[] =>
      text.split("\nTest text")[1]!.split("\nRouters")[0]!.split("\n");
    expect(results(resumed.stdout)).toEqual(results(whole.stdout));
    const starts = (await readMetrics(join(cwd, "run", "metrics.jsonl"))).filter(
      ({ type }) => type === "start",
    );
    expect(starts.map((record) => record.step)).toEqual([0, step]);
  });

  test("a second time stops at once", async () => {
    const cwd = await newFolder();
    const running = startCommand(["train", await tinyConfigFile(slow), "--out", "run"], cwd);
    await running.printed(/tok\/s/);
    running.child.kill("SIGINT");
    await running.printed(/Ctrl-C again stops at once/);
    running.child.kill("SIGINT");
    const { status, stdout } = await running.ended;
    expect(status).toBe(130);
    expect(stdout).not.toContain("stopped after step");
    expect(await new CheckpointFolder(join(cwd, "run", "checkpoints")).steps()).toEqual([]);
  });

  test("while the corpus is prepared leaves nothing behind", async () => {
    const cwd = await newFolder();
    await writeFile(join(cwd, "large.txt"), `${tinyText(100)}\n`.repeat(4_000));
    const running = startCommand(["data", "prepare", "text", "large.txt", "--tokens", "words"], cwd);
    while ((await readdir(cwd)).length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    running.child.kill("SIGINT");
    expect(await running.ended).toMatchObject({ status: 130, stdout: "" });
    expect(await readdir(join(cwd, "large.txt.tokens"))).toEqual([]);
  });

  test("ends a generation after the running token", async () => {
    const cwd = await newFolder();
    await runCommand(["train", await tinyConfigFile(), "--out", "run"], cwd);
    const running = startCommand(["generate", "run", "--max-tokens", "1000000"], cwd);
    await running.printed(/The /);
    running.child.kill("SIGINT");
    expect(await running.ended).toMatchObject({
      status: 130,
      stderr: expect.stringMatching(/Stopping/),
    });
  });
});
