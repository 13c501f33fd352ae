import { describe, expect, test } from "@jest/globals";

import { LmBatches } from "../../lib/data/batches.js";
import { MemoryTokens } from "../../lib/data/token-source.js";
import { Adam } from "../../lib/optim/optimizer.js";
import { PlateauLr } from "../../lib/optim/schedule.js";
import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import { evaluate } from "../../lib/train/evaluate.js";
import type { EvaluationEvent, TrainEvent } from "../../lib/train/events.js";
import { openRun } from "../../lib/train/run.js";
import { Trainer } from "../../lib/train/trainer.js";
import { Validation, validationMemLen } from "../../lib/train/validation.js";
import { modelDigest, newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();
const watched = tinyConfig(text, {
  train: { steps: 6, topKSchedule: "linear_increase", topKMin: 1, topKMax: 4 },
  evaluation: { every: 2, maxBatches: 2 },
  checkpoint: { every: 3, keepLast: 10 },
});

const described = ({ type, step }: TrainEvent): string => `${type} ${String(step)}`;

describe("events", () => {
  test("come in order; checkpoints once they are on the disk", async () => {
    const run = await openRun(watched, { checkpoints: await newFolder() });
    const events: TrainEvent[] = [];
    for await (const event of run.train()) events.push(event);
    const order = events.map(described).filter((event) => !event.startsWith("checkpoint"));
    expect(order).toEqual([
      ...["step 1", "step 2", "evaluation 2", "step 3", "step 4", "evaluation 4", "step 5", "step 6"],
      ...["evaluation 6", "end 6"],
    ]);
    const written = events.flatMap((event) => (event.type === "checkpoint" ? [event] : []));
    // Every evaluation was the best so far here.
    expect(written.map(({ step }) => step)).toEqual([2, 3, 4, 6]);
    expect(written.every(({ error, seconds }) => error === null && seconds > 0)).toBe(true);
    expect(events.at(-1)).toEqual({ type: "end", step: 6, reason: "steps" });
    await run.close();
  });

  test("go to callbacks too, each awaited before training goes on", async () => {
    const run = await openRun(watched, { checkpoints: await newFolder() });
    const seen: string[] = [];
    const note = async (event: TrainEvent): Promise<void> => {
      const { updates } = run.optimizer;
      await new Promise((resolve) => setTimeout(resolve, 2));
      expect(run.optimizer.updates).toBe(updates);
      seen.push(described(event));
    };
    const end = await run.trainer.train({
      ...{ steps: 4, onStep: note, onEvaluation: note, onCheckpoint: note, onEnd: note },
    });
    expect(end.reason).toBe("steps");
    for (const event of ["step 4", "evaluation 4", "checkpoint 4", "end 4"]) expect(seen).toContain(event);
    await run.close();
  });

  test("belong to one run at a time, and to options that exist", async () => {
    const run = await openRun(watched);
    const events = run.trainer.run({ steps: 2 });
    await events.next();
    await expect(run.trainer.train({ steps: 2 })).rejects.toThrow(/running already\n {2}fix: wait/);
    await events.return();
    expect((await run.trainer.train({ steps: 2 })).step).toBe(2);
    const misspelled = { step: 2 } as object;
    await expect(run.trainer.train(misspelled)).rejects.toThrow(
      /unknown option "step"\n {2}fix: did you mean "steps"/,
    );
    await run.close();
  });

  test("an error in a callback ends the run", async () => {
    const run = await openRun(watched);
    const onStep = (): void => {
      throw new Error("enough");
    };
    await expect(run.trainer.train({ steps: 4, onStep })).rejects.toThrow("enough");
    expect(run.optimizer.updates).toBe(1);
    await run.close();
  });

  test("leaving the loop finishes the checkpoint that is being written", async () => {
    const path = await newFolder();
    const run = await openRun(watched, { checkpoints: path });
    for await (const { type, step } of run.train()) if (type === "step" && step === 4) break;
    expect(await new CheckpointFolder(path).steps()).toEqual([2, 3]);
    expect(run.optimizer.updates).toBe(4);
    await run.close();
  });

  test("the end says why: the signal, the time, or patience", async () => {
    const end = async (options: object, config = watched): Promise<TrainEvent> => {
      const run = await openRun(config);
      const result = await run.trainer.train({ steps: 30, ...options });
      await run.close();
      return result;
    };
    expect(await end({ signal: AbortSignal.abort() })).toEqual({ type: "end", step: 0, reason: "aborted" });
    expect(await end({ maxSeconds: 0 })).toEqual({ type: "end", step: 0, reason: "time" });
    const worse = tinyConfig(text, {
      train: { lr: 3, lrSchedule: "constant", warmupSteps: 0 },
      evaluation: { every: 1, patience: 3, maxBatches: 2 },
    });
    const stopped = await end({}, worse);
    expect(stopped).toMatchObject({ type: "end", reason: "patience" });
    expect(stopped.step).toBeLessThan(30);
  });
});

describe("validation", () => {
  test("uses all experts and the base number, and the memory of training", async () => {
    const run = await openRun(watched, {});
    const evaluations: EvaluationEvent[] = [];
    for await (const event of run.train()) {
      if (event.type !== "evaluation") continue;
      evaluations.push(event);
      const options = { batchSize: 2, seqLen: 16, maxBatches: 2, memLen: validationMemLen(8, 12, 16) };
      expect(options.memLen).toBe(4);
      const { corpus, model } = run;
      expect(event.base).toEqual(await evaluate(model, corpus.valid, { ...options, topK: 2 }));
      expect(event.dense).toEqual(await evaluate(model, corpus.valid, { ...options, topK: 4 }));
    }
    expect(evaluations.map(({ evaluationsSinceBest }) => evaluationsSinceBest)).toEqual([0, 0, 0]);
    await run.close();
  });

  test("changes nothing about training", async () => {
    const digest = async (every: number | null): Promise<string> => {
      const run = await openRun(
        tinyConfig(text, { model: { dropout: 0.2 }, evaluation: { every, maxBatches: 2 } }),
      );
      await run.trainer.train({ steps: 6 });
      expect(run.model.training).toBe(true);
      const result = await modelDigest(run.model);
      await run.close();
      return result;
    };
    expect(await digest(1)).toBe(await digest(null));
  });

  test("counts evaluations without improvement, and remembers the best of each kind", async () => {
    const run = await openRun(tinyConfig(text));
    const validation = new Validation(
      run.model,
      { source: run.corpus.valid, every: 1, batchSize: 2, maxBatches: 1, patience: 2 },
      12,
    );
    const first = await validation.run(1, undefined);
    expect(first).toMatchObject({ isBest: true, isBestDense: true, evaluationsSinceBest: 0 });
    expect([validation.isDue(1), validation.isDue(2), validation.isOutOfPatience]).toEqual([
      false,
      true,
      false,
    ]);
    await validation.run(2, undefined);
    expect(await validation.run(3, undefined)).toMatchObject({ isBest: false, evaluationsSinceBest: 2 });
    expect(validation.isOutOfPatience).toBe(true);
    expect(validation.state.best.base).toEqual({ nats: first.base.nats, step: 1 });
    await expect(validation.run(4, AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    expect(validation.state.evaluatedAt).toBe(3);
    await run.close();
  });

  test.each([
    [0, 12, 16, 0],
    [512, 512, 128, 896],
    [8, 12, 128, 1],
  ])(
    "memory of %i for segments of %i is, for segments of %i, %i",
    (memLen, trainSeqLen, seqLen, expected) => {
      expect(validationMemLen(memLen, trainSeqLen, seqLen)).toBe(expected);
    },
  );

  test("refuses a text that is too short before training begins", async () => {
    const run = await openRun(tinyConfig(text));
    const source = new MemoryTokens(new Uint8Array(12), 256);
    const options = {
      model: run.model,
      optimizer: run.optimizer,
      batches: new LmBatches(run.corpus.train, run.config.train),
      lr: () => 1e-3,
    };
    expect(() => new Trainer({ ...options, validation: { source, every: 1 } })).toThrow(
      /12 tokens are too few/,
    );
    const plateau = new PlateauLr({ lr: 1e-3 });
    expect(() => new Trainer({ ...options, lr: plateau })).toThrow(/needs a validation\n {2}fix:/);
    await run.close();
  });

  test("lowers a rate that follows it", async () => {
    const lr = new PlateauLr({ lr: 2, decayRate: 0.1 });
    const run = await openRun(tinyConfig(text));
    run.optimizer.dispose();
    const optimizer = new Adam(run.model.parameters());
    const batches = new LmBatches(run.corpus.train, run.config.train);
    const validation = { source: run.corpus.valid, every: 1, batchSize: 2, seqLen: 16, maxBatches: 1 };
    const trainer = new Trainer({ model: run.model, optimizer, batches, lr, validation });
    const rates: number[] = [];
    await trainer.train({ steps: 6, onStep: (event) => void rates.push(event.lr) });
    expect(new Set(rates).size).toBeGreaterThan(1);
    expect(Math.min(...rates)).toBeCloseTo(2 * 0.1 ** (new Set(rates).size - 1), 10);
    trainer.dispose();
    optimizer.dispose();
    await run.close();
  });
});
