import { execFile } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { describe, expect, test } from "@jest/globals";

import { LmBatches } from "../../lib/data/batches.js";
import { CheckpointError } from "../../lib/errors.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { TransformerXL } from "../../lib/nn/transformer-xl.js";
import { Adam, AdamW, Sgd } from "../../lib/optim/optimizer.js";
import { checkpointInfo } from "../../lib/train/checkpoint.js";
import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import type { RunConfig } from "../../lib/train/config.js";
import type { TrainEvent } from "../../lib/train/events.js";
import { openRun, type OpenRunOptions } from "../../lib/train/run.js";
import { Trainer } from "../../lib/train/trainer.js";
import { modelDigest, newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();

/** Everything at once: nine batches in a pass, so that twelve steps cross into the second. */
function fullConfig(steps: number, train: object = {}): RunConfig {
  return tinyConfig(text, {
    model: { dropout: 0.2, attentionDropout: 0.1, preNorm: true },
    train: {
      ...{ steps, seqLen: 300, accumulation: 2, topKMin: 1, topKMax: 4, lr: 5e-3, lrSchedule: "plateau" },
      ...{ topKSchedule: "multi_step_increase", warmupSteps: 3, ...train },
    },
    evaluation: { every: 2, maxBatches: 2 },
    checkpoint: { every: 5, keepLast: 100 },
  });
}

interface Outcome {
  /** Without times and paths. */
  events: object[];
  digest: string;
}

const isTraining = (event: { type: string }): boolean => event.type === "step" || event.type === "evaluation";

async function outcomeOf(config: RunConfig, options: OpenRunOptions, stopAt = Infinity): Promise<Outcome> {
  const run = await openRun(config, options);
  const stop = new AbortController();
  const events: object[] = [];
  for await (const event of run.train({ signal: stop.signal })) {
    if (isTraining(event)) events.push({ ...event, seconds: 0 });
    if (event.type === "step" && event.step === stopAt) stop.abort();
  }
  const digest = await modelDigest(run.model);
  await run.close();
  return { events, digest };
}

async function failure(promise: Promise<unknown>): Promise<CheckpointError> {
  const error = await promise.catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(CheckpointError);
  return error as CheckpointError;
}

describe("a resumed run", () => {
  // The growing k counts in updates of the whole run, as does the learning rate.
  const config = fullConfig(12);

  test("goes on bit for bit: 12 steps are 5 and 7", async () => {
    const whole = await outcomeOf(config, {});
    const topKs = whole.events.flatMap((event) => ("topK" in event ? [event.topK] : []));
    expect(new Set(topKs).size).toBeGreaterThan(2);
    const checkpoints = await newFolder();
    const first = await outcomeOf(config, { checkpoints }, 5);
    expect(await new CheckpointFolder(checkpoints).steps()).toContain(5);
    const second = await outcomeOf(config, { checkpoints, resume: true });
    expect([...first.events, ...second.events]).toEqual(whole.events);
    expect(second.digest).toBe(whole.digest);
    expect((await checkpointInfo(new CheckpointFolder(checkpoints).pathOf(12))).progress.cursor.epoch).toBe(
      1,
    );
  });

  test("goes on from a checkpoint that was written while training went on", async () => {
    const checkpoints = await newFolder();
    const whole = await outcomeOf(config, { checkpoints });
    for (const step of [5, 10]) {
      const resume = new CheckpointFolder(checkpoints).pathOf(step);
      const rest = await outcomeOf(config, { resume });
      expect(rest.events).toEqual(whole.events.slice(-rest.events.length));
      expect(rest.events.length).toBeGreaterThan(2);
      expect(rest.digest).toBe(whole.digest);
    }
  });

  test("does first what the signal kept it from: an evaluation that was due", async () => {
    const whole = await outcomeOf(config, {});
    const checkpoints = await newFolder();
    const first = await outcomeOf(config, { checkpoints }, 4);
    expect(first.events).toHaveLength(4 + 1);
    const second = await outcomeOf(config, { checkpoints, resume: true });
    expect([...first.events, ...second.events]).toEqual(whole.events);
  });

  test("goes on in another process, to the same file byte for byte", async () => {
    const [whole, parts] = [new CheckpointFolder(await newFolder()), new CheckpointFolder(await newFolder())];
    await outcomeOf(config, { checkpoints: whole.path });
    await outcomeOf(config, { checkpoints: parts.path }, 5);
    const child = fileURLToPath(new URL("children/train.mjs", import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [
      child,
      JSON.stringify(config),
      parts.path,
    ]);
    expect(stdout).toMatch(/^\{"type":"step","step":6,/);
    expect(stdout).toMatch(/"type":"end","step":12,"reason":"steps"\}\n$/);
    expect(await readFile(parts.pathOf(12))).toEqual(await readFile(whole.pathOf(12)));
  }, 60_000);

  test.each(["adamw", "sgd", "adagrad"])("goes on with %s", async (optimizer) => {
    const short = fullConfig(4, { optimizer, lrSchedule: "cosine" });
    const whole = await outcomeOf(short, {});
    const checkpoints = await newFolder();
    await outcomeOf(short, { checkpoints }, 2);
    expect((await outcomeOf(short, { checkpoints, resume: true })).digest).toBe(whole.digest);
  });

  test("may be longer, and be watched differently", async () => {
    const checkpoints = await newFolder();
    await outcomeOf(fullConfig(2), { checkpoints });
    const longer = { ...fullConfig(4), evaluation: { ...config.evaluation, every: 1 } };
    expect((await outcomeOf(longer, { checkpoints, resume: true })).events).toHaveLength(2 + 2);
  });

  test("starts from the start when there is no checkpoint yet", async () => {
    const run = await openRun(config, { checkpoints: await newFolder(), resume: true });
    expect(run.optimizer.updates).toBe(0);
    await run.close();
  });
});

describe("a checkpoint that does not fit", () => {
  test("names the settings that differ", async () => {
    const checkpoints = await newFolder();
    await outcomeOf(fullConfig(2), { checkpoints });
    const other = fullConfig(2, { lr: 1e-3 });
    other.model.numHeads = 1;
    other.model.dHead = 16;
    const error = await failure(openRun(other, { checkpoints, resume: true }));
    expect(error.reason).toContain(
      "its settings differ: model.numHeads (2 there, 1 here), model.dHead (8 there, 16 here), train.lr (0.005 there, 0.001 here)",
    );
    expect(error.fix).toMatch(/resume with the values of its run/);
  });

  test("names the tensors, the data and the optimiser that differ", async () => {
    const checkpoints = await newFolder();
    await outcomeOf(fullConfig(2), { checkpoints });
    const resume = (await new CheckpointFolder(checkpoints).latest()) ?? "";
    const trainerOf = async (config: RunConfig, Optimiser: typeof Adam | typeof Sgd): Promise<unknown> => {
      const run = await openRun(config);
      run.optimizer.dispose();
      const optimizer = new Optimiser(run.model.parameters());
      const batches = new LmBatches(run.corpus.train, config.train);
      const { accumulation } = config.train;
      const before = await modelDigest(run.model);
      const trainer = new Trainer({ model: run.model, optimizer, batches, lr: () => 1e-3, accumulation });
      try {
        await trainer.restore(resume);
      } finally {
        expect(await modelDigest(run.model)).toBe(before);
        optimizer.dispose();
        await run.close();
      }
      return undefined;
    };
    const narrow = fullConfig(2);
    narrow.model.dInner = 20;
    narrow.model.gate = "smoe";
    const shapes = (await failure(trainerOf(narrow, Adam))).reason;
    expect(shapes).toMatch(/lacks "routers\.source\.weight"/);
    expect(shapes).toMatch(/"optimizer\/m\/routers\.source\.embeddings".*which the model has not/);
    expect(shapes).toMatch(
      /"layers\.0\.feedForward\.experts\.w1" has shape \[4, 24, 16\], expected \[4, 20, 16\]/,
    );
    const cut = fullConfig(2, { batchSize: 3, accumulation: 1 });
    expect((await failure(trainerOf(cut, Sgd))).reason).toMatch(
      /batchSize \(4 there, 3 here\), columnLength .*accumulation \(2 there, 1 here\), optimizer \("Adam" there, "Sgd" here\)/,
    );
  });

  test("is refused before it is opened when the folder holds a later run", async () => {
    const checkpoints = await newFolder();
    await outcomeOf(fullConfig(3), { checkpoints });
    const error = await failure(outcomeOf(fullConfig(2), { checkpoints }));
    expect(error.message).toMatch(/holds checkpoints up to step 3, and this run is at step 0[^]*fix: resume/);
  });
});

test("every random stream of a model goes on, those of its own modules too", async () => {
  const config = fullConfig(4, { lrSchedule: "constant" });
  const folder = new CheckpointFolder(await newFolder());
  /** Draws a number after each update, as a module of one's own might. */
  const draws = async (resume: string | null, stopAt: number): Promise<number[]> => {
    const run = await openRun(config);
    const init = new Initializer({ seed: 5 });
    const noise = init.stream("noise");
    const model = new TransformerXL(
      { ...{ vocabSize: 256, numLayers: 1, dModel: 16, numHeads: 2, dInner: 8 }, moe: null, dropout: 0.1 },
      init,
    );
    const optimizer = new Adam(model.parameters());
    const batches = new LmBatches(run.corpus.train, config.train);
    const checkpoints =
      resume === null ? { checkpoints: { folder: folder.path, every: 1, keepLast: 9 } } : {};
    const trainer = new Trainer({ model, optimizer, batches, lr: () => 1e-3, ...checkpoints });
    if (resume !== null) await trainer.restore(resume);
    const calls: number[] = [];
    const onStep = (): void => void calls.push(noise.next().call, model.dropoutStream.calls);
    await trainer.train({ steps: stopAt, onStep });
    trainer.dispose();
    optimizer.dispose();
    model.dispose();
    await run.close();
    return calls;
  };
  const whole = await draws(null, 4);
  // The checkpoint of a step is made after the body of the loop has seen it.
  expect(await draws(folder.pathOf(2), 4)).toEqual(whole.slice(4));
  expect((await checkpointInfo(folder.pathOf(2))).progress.randomCalls["noise"]).toBe(2);
});

test("optimiser state belongs to parameters, not to places: groups may be ordered anew", async () => {
  const config = fullConfig(6, { lrSchedule: "constant" });
  const folder = await newFolder();
  const outcome = async (reversed: boolean, steps: number, resume?: string): Promise<string> => {
    const run = await openRun(config);
    run.optimizer.dispose();
    const parameters = [...run.model.namedParameters()];
    const named = (bias: boolean) => ({
      parameters: parameters.filter(([name]) => /bias|b\d$/.test(name) === bias).map(([, one]) => one),
      ...(bias && { weightDecay: 0, lrScale: 0.5 }),
    });
    const optimizer = new AdamW(reversed ? [named(true), named(false)] : [named(false), named(true)]);
    const trainer = new Trainer({
      model: run.model,
      optimizer,
      batches: new LmBatches(run.corpus.train, config.train),
      lr: () => 1e-2,
      accumulation: 2,
      maxGradNorm: 0, // the order of the sum of squares depends on places
      ...(resume === undefined && { checkpoints: { folder } }),
    });
    if (resume !== undefined) await trainer.restore(resume);
    await trainer.train({ steps });
    const digest = await modelDigest(run.model);
    trainer.dispose();
    optimizer.dispose();
    await run.close();
    return digest;
  };
  const whole = await outcome(false, 3).then(() => outcome(false, 6, new CheckpointFolder(folder).pathOf(3)));
  expect(await outcome(true, 6, new CheckpointFolder(folder).pathOf(3))).toBe(whole);
});

describe("a folder of checkpoints", () => {
  const events = async (config: RunConfig, checkpoints: string): Promise<TrainEvent[]> => {
    const run = await openRun(config, { checkpoints });
    const all: TrainEvent[] = [];
    for await (const event of run.train()) all.push(event);
    await run.close();
    return all;
  };

  test("keeps the last ones, and the best by either measure", async () => {
    const config = tinyConfig(text, {
      train: { steps: 14, lr: 0.5, lrSchedule: "constant" },
      evaluation: { every: 2, maxBatches: 3 },
      checkpoint: { every: 3, keepLast: 2 },
    });
    const path = await newFolder();
    const all = await events(config, path);
    const bestStep = (key: "isBest" | "isBestDense"): number =>
      all.flatMap((event) => (event.type === "evaluation" && event[key] ? [event.step] : [])).at(-1) ?? 0;
    const folder = new CheckpointFolder(path);
    const expected = new Set([bestStep("isBest"), bestStep("isBestDense"), 12, 14]);
    expect(await folder.steps()).toEqual([...expected].sort((a, b) => a - b));
    expect(await folder.latest()).toBe(folder.pathOf(14));
    expect(await folder.best()).toBe(folder.pathOf(bestStep("isBest")));
    expect(await folder.best("dense")).toBe(folder.pathOf(bestStep("isBestDense")));
    expect((await readdir(path)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
    const written = all.filter(({ type }) => type === "checkpoint");
    expect(written.map(({ step }) => step)).toEqual(expect.arrayContaining([3, 6, 9, 12, 14]));
    expect(all.at(-1)).toEqual({ type: "end", step: 14, reason: "steps" });
  });

  test("that is empty or missing has no latest and no best", async () => {
    const folder = new CheckpointFolder(join(await newFolder(), "nothing"));
    expect([await folder.steps(), await folder.latest(), await folder.best()]).toEqual([[], null, null]);
  });

  test("loses half-written files of killed runs, and nothing else", async () => {
    const path = await newFolder();
    await writeFile(join(path, "step-00000001.safetensors.0123456789ab.tmp"), "half");
    await writeFile(join(path, "notes.tmp"), "mine");
    await events(tinyConfig(text, { train: { steps: 1 } }), path);
    expect((await readdir(path)).sort()).toEqual(["notes.tmp", "step-00000001.safetensors"]);
  });

  test("that vanishes is reported, and the last checkpoint fails the run", async () => {
    const path = await newFolder();
    const run = await openRun(tinyConfig(text, { checkpoint: { every: 1 } }), { checkpoints: path });
    const errors: string[] = [];
    const training = run.trainer.train({
      steps: 4,
      onStep: async ({ step }) => {
        if (step === 2) await rm(path, { recursive: true });
      },
      onCheckpoint: ({ error }) => {
        if (error) errors.push(error.reason);
      },
    });
    expect((await failure(training)).message).toMatch(/cannot be written: no such file or folder\n {2}fix:/);
    expect(run.optimizer.updates).toBe(4);
    expect(errors.length).toBeGreaterThan(0);
    await run.close();
  });
});
