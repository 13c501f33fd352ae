// Several models at once: in worker threads, in one process; and ends in the middle of a step.
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "@jest/globals";

import { checkpointInfo } from "../../lib/train/checkpoint.js";
import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import type { RunConfig } from "../../lib/train/config.js";
import { openRun, type Run } from "../../lib/train/run.js";
import { modelDigest, newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();

function config(steps: number, seed = 1): RunConfig {
  const settings = tinyConfig(text, {
    model: { dModel: 64, dInner: 256, dropout: 0.1 },
    train: { steps, lrSchedule: "constant", seqLen: 64 },
    checkpoint: { every: 1, keepLast: 2 },
  });
  return { ...settings, seed };
}

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
}

function child(how: string, settings: RunConfig, folders: string[]): Promise<Ended> {
  const script = fileURLToPath(new URL("children/workers.mjs", import.meta.url));
  const process_ = spawn(process.execPath, [script, how, JSON.stringify(settings), ...folders]);
  let output = "";
  for (const stream of [process_.stdout, process_.stderr])
    stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  return new Promise((resolve) =>
    process_.on("close", (code, signal) => {
      resolve({ code, signal, output });
    }),
  );
}

const newFolders = (count: number): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () => newFolder()));

describe("worker threads", () => {
  test("two train at once, to the same bits as one alone", async () => {
    const [alone = "", ...folders] = await newFolders(3);
    const run = await openRun(config(6), { checkpoints: alone });
    await run.trainer.train({ steps: 6 });
    await run.close();
    const ended = await child("two", config(6), folders);
    expect(ended).toEqual({ code: 0, signal: null, output: "6 6\n" });
    const expected = await readFile(new CheckpointFolder(alone).pathOf(6));
    for (const folder of folders) {
      expect((await readFile(new CheckpointFolder(folder).pathOf(6))).equals(expected)).toBe(true);
    }
  }, 60_000);

  test("five are terminated in the middle of a step, and leave good checkpoints", async () => {
    const folders = await newFolders(5);
    const ended = await child("terminate", config(100_000), folders);
    expect(ended).toEqual({ code: 0, signal: null, output: "5 terminated\n" });
    for (const path of folders) {
      const latest = await new CheckpointFolder(path).latest();
      if (latest !== null) expect((await checkpointInfo(latest)).progress.updates).toBeGreaterThan(0);
    }
  }, 60_000);

  test("a process exits in the middle of a step", async () => {
    const ended = await child("exit", config(100_000), await newFolders(1));
    expect(ended).toEqual({ code: 3, signal: null, output: "" });
  }, 60_000);
});

test("three models in one process do not disturb each other", async () => {
  const seeds = [1, 2, 3];
  const alone: string[] = [];
  for (const seed of seeds) {
    const run = await openRun(config(4, seed));
    await run.trainer.train({ steps: 4 });
    alone.push(await modelDigest(run.model));
    await run.close();
  }
  const runs: Run[] = [];
  for (const seed of seeds) runs.push(await openRun(config(4, seed)));
  // Side by side, each as fast as it gets; and then one step at a time.
  await Promise.all(runs.map(({ trainer }) => trainer.train({ steps: 2 })));
  for (const step of [3, 4]) for (const { trainer } of runs) await trainer.train({ steps: step });
  expect(await Promise.all(runs.map(({ model }) => modelDigest(model)))).toEqual(alone);
  expect(new Set(alone).size).toBe(3);
  for (const run of runs) await run.close();
});
