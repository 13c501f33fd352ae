// What can go wrong outside of the program while it trains: it is killed, the disk is full, the data changes.
import { execFileSync, spawn } from "node:child_process";
import { mkdir, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "@jest/globals";

import { DataFileError } from "../../lib/errors.js";
import { checkpointInfo } from "../../lib/train/checkpoint.js";
import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import type { RunConfig } from "../../lib/train/config.js";
import { loadCorpus } from "../../lib/data/corpora.js";
import { LmBatches } from "../../lib/data/batches.js";
import { Adam } from "../../lib/optim/optimizer.js";
import { buildModel, openRun } from "../../lib/train/run.js";
import { Trainer } from "../../lib/train/trainer.js";
import { testRandom } from "../data/test-random.js";
import { newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();

/** Checkpoints of six megabytes, written after every update. */
function config(steps: number): RunConfig {
  return tinyConfig(text, {
    model: { dModel: 64, dInner: 256, numExperts: 8, dropout: 0.1 },
    train: { steps, lrSchedule: "constant", seqLen: 16, batchSize: 2 },
    checkpoint: { every: 1 },
  });
}

const trainScript = fileURLToPath(new URL("children/train.mjs", import.meta.url));

/** Trains until the end, in this process. @returns the bytes of the last checkpoint. */
async function lastCheckpoint(steps: number, path: string): Promise<Buffer> {
  const run = await openRun(config(steps), { checkpoints: path, resume: true });
  await run.trainer.train({ steps });
  await run.close();
  return readFile(new CheckpointFolder(path).pathOf(steps));
}

describe("kill -9", () => {
  /** Trains in a child process, and kills it some time after its first event of a type. @returns its events. */
  function killedRun(checkpoints: string, after: string, milliseconds: number): Promise<string> {
    const args = [trainScript, JSON.stringify(config(100_000)), checkpoints];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let armed = false;
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (armed || !output.includes(`"type":"${after}"`)) return;
      armed = true;
      setTimeout(() => child.kill("SIGKILL"), milliseconds);
    });
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (_, signal) => {
        if (signal === "SIGKILL") resolve(output);
        else reject(new Error(`the child ended by itself: ${output}`));
      });
    });
  }

  test("20 times while checkpoints are written leaves the last good one, and the run goes on bit for bit", async () => {
    const rounds = 20;
    const random = testRandom(3);
    const path = await newFolder();
    const folder = new CheckpointFolder(path);
    let [last, halfWritten] = [0, 0];
    for (let round = 0; round < rounds; round += 1) {
      // Every second round is sure to get on, however slow the disk.
      await killedRun(path, round % 2 === 0 ? "step" : "checkpoint", random.below(120));
      if ((await readdir(path)).some((name) => name.endsWith(".tmp"))) halfWritten += 1;
      const latest = await folder.latest();
      if (latest === null) continue;
      const { progress } = await checkpointInfo(latest); // compares the checksum
      expect(folder.pathOf(progress.updates)).toBe(latest);
      expect(progress.updates).toBeGreaterThanOrEqual(last);
      last = progress.updates;
    }
    console.log(
      `kill -9: ${String(rounds)} rounds, ${String(halfWritten)} in the middle of a write; ` +
        `resumed each time, up to update ${String(last)}`,
    );
    expect(halfWritten).toBeGreaterThan(0);
    expect(last).toBeGreaterThanOrEqual(rounds / 2);
    const resumed = await lastCheckpoint(last + 2, path);
    expect(resumed.equals(await lastCheckpoint(last + 2, await newFolder()))).toBe(true);
  }, 240_000);
});

describe("a full disk", () => {
  const megabytes = 24;

  /** A folder with room for three checkpoints: a small file system where mounting is allowed. */
  async function smallFolder(): Promise<{ path: string; remove: () => Promise<void> } | null> {
    const path = await newFolder();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${String(megabytes)}m`, "tmpfs", path], {
        stdio: "ignore",
      });
    } catch {
      return null;
    }
    return {
      path,
      remove: async () => {
        execFileSync("umount", [path]);
        await rm(path, { recursive: true });
      },
    };
  }

  test("loses no checkpoint, does not stop training, and says what to do", async () => {
    const small = await smallFolder();
    if (!small) {
      console.log("disk full: mounting is not permitted here, see the limit on the size of a file");
      return;
    }
    try {
      const run = await openRun(config(8), { checkpoints: join(small.path, "checkpoints") });
      const filler = join(small.path, "filler");
      const failures: string[] = [];
      await run.trainer.train({
        steps: 8,
        onStep: async ({ step }) => {
          if (step === 2) await writeFile(filler, new Uint8Array(2 ** 20 * megabytes)).catch(() => undefined);
          if (step === 7) await rm(filler);
        },
        onCheckpoint: ({ error }) => {
          if (error) failures.push(error.message);
        },
      });
      const folder = new CheckpointFolder(join(small.path, "checkpoints"));
      expect(run.optimizer.updates).toBe(8);
      expect((await checkpointInfo((await folder.latest()) ?? "")).progress.updates).toBe(8);
      expect(failures.length).toBeGreaterThan(1);
      for (const message of failures) {
        expect(message).toMatch(
          /no space left on the device after \d+ bytes\n {2}fix: make room or write to/,
        );
      }
      expect((await readdir(folder.path)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
      console.log(
        `disk full: a file system of ${String(megabytes)} MB; ${String(failures.length)} writes failed`,
      );
      await run.close();
    } finally {
      await small.remove();
    }
  }, 60_000);

  test("or a limit on the size of files: the last good checkpoint stays, the run ends with an error", async () => {
    const path = await newFolder();
    const first = await openRun(config(2), { checkpoints: path });
    await first.trainer.train({ steps: 2 });
    await first.close();
    const script = `ulimit -f 2000; exec "$@"`; // in blocks of 512 or 1024 bytes
    const args = ["-c", script, "sh", process.execPath, trainScript];
    const child = spawn("sh", [...args, JSON.stringify(config(5)), path], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(stderr).toMatch(
      /step-00000005\.safetensors: cannot be written: .* largest size .*\n {2}fix: make room/,
    );
    expect(code).toBe(1);
    expect([...stdout.matchAll(/"type":"step"/g)]).toHaveLength(3);
    expect(await new CheckpointFolder(path).steps()).toEqual([1, 2]);
    expect((await checkpointInfo(new CheckpointFolder(path).pathOf(2))).progress.updates).toBe(2);
    console.log("disk full: a limit on the size of files (ulimit -f); 2 checkpoints kept");
  }, 60_000);
});

describe("a token file", () => {
  /** Trains from prepared files, of which the one for training is damaged after the second update. */
  async function failureWhen(damage: (path: string) => Promise<void>): Promise<DataFileError> {
    const cacheDir = await newFolder();
    await mkdir(cacheDir, { recursive: true });
    const corpus = await loadCorpus("text", { path: text, cacheDir });
    const [file = ""] = (await readdir(cacheDir)).filter((name) => name.startsWith("train"));
    const settings = tinyConfig(text);
    const model = buildModel(settings, corpus.tokenizer.vocabSize);
    const optimizer = new Adam(model.parameters());
    const batches = new LmBatches(corpus.train, settings.train);
    const trainer = new Trainer({ model, optimizer, batches, lr: () => 1e-3 });
    const onStep = async ({ step }: { step: number }): Promise<void> => {
      if (step === 2) await damage(join(cacheDir, file));
    };
    const error = await trainer.train({ steps: 50, onStep }).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(DataFileError);
    expect(optimizer.updates).toBeLessThan(5);
    trainer.dispose();
    optimizer.dispose();
    model.dispose();
    await corpus.close();
    return error as DataFileError;
  }

  test("that is cut while training is an error that names the byte", async () => {
    const error = await failureWhen(async (path) => {
      const handle = await open(path, "r+");
      await handle.truncate(5000);
      await handle.close();
    });
    expect(error.offset).toBe(5000);
    expect(error.message).toMatch(
      /train\S*: ends here: it was cut while open \(byte 5000\)\n {2}fix: restore/,
    );
  });

  test("that is changed while training is an error that names the byte", async () => {
    const error = await failureWhen(async (path) => {
      await new Promise((resolve) => setTimeout(resolve, 50)); // clocks of file systems tick slowly
      const handle = await open(path, "r+");
      await handle.write(Uint8Array.of(101), 0, 1, 6000);
      await handle.close();
    });
    expect(error.offset).toBeGreaterThan(0);
    expect(error.message).toMatch(/changed while open, read from here \(byte \d+\)\n {2}fix: restore/);
  });
});
