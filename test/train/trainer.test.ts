import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { NonFiniteError } from "../../lib/errors.js";
import type { StepEvent } from "../../lib/train/events.js";
import { Trainer } from "../../lib/train/trainer.js";
import { LmBatches } from "../../lib/data/batches.js";
import type { Module } from "../../lib/nn/module.js";
import { Adam } from "../../lib/optim/optimizer.js";
import type { RunConfig } from "../../lib/train/config.js";
import { buildModel, openRun } from "../../lib/train/run.js";
import { tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();

async function parametersOf(model: Module): Promise<Record<string, number[]>> {
  const values: Record<string, number[]> = {};
  for (const [name, parameter] of model.namedParameters()) values[name] = [...(await parameter.value.data())];
  return values;
}

/** Trains from the start. @returns what happened, without times, and the parameters at the end. */
async function trained(
  config: RunConfig,
): Promise<{ events: StepEvent[]; values: Record<string, number[]> }> {
  const run = await openRun(config);
  const events = [];
  for await (const event of run.train()) if (event.type === "step") events.push({ ...event, seconds: 0 });
  const values = await parametersOf(run.model);
  await run.close();
  return { events, values };
}

describe("training", () => {
  // Large enough that kernels cut their work into several tasks.
  const config = tinyConfig(text, {
    model: {
      dModel: 64,
      dInner: 160,
      numHeads: 4,
      dHead: 16,
      numExperts: 8,
      dropout: 0.2,
      attentionDropout: 0.1,
    },
    train: { steps: 6, batchSize: 12, seqLen: 48 },
  });

  test("gives the same bits in two runs", async () => {
    expect(await trained(config)).toEqual(await trained(config));
  });

  test.each([1, 2, 3])("gives the same bits with %i threads", async (threads) => {
    const device = openDevice("cpu");
    const before = device.threads;
    const expected = await trained(config);
    device.setThreads(threads);
    try {
      expect(await trained(config)).toEqual(expected);
    } finally {
      device.setThreads(before);
    }
  });

  test("lowers the loss", async () => {
    const { events } = await trained(tinyConfig(text, { train: { steps: 150, lr: 1e-2 } }));
    const mean = (part: typeof events): number => part.reduce((sum, { loss }) => sum + loss, 0) / part.length;
    expect(mean(events.slice(0, 5))).toBeGreaterThan(4);
    expect(mean(events.slice(-10))).toBeLessThan(2.2);
  });

  test("never changes what is frozen", async () => {
    for (const gate of ["hyper-router", "smoe-dropout"]) {
      const run = await openRun(tinyConfig(text, { model: { gate } }));
      const frozen = [...run.model.namedParameters()]
        .filter(([, { trainable }]) => !trainable)
        .map(([name]) => name);
      expect(frozen.length).toBeGreaterThan(1);
      const before = await parametersOf(run.model);
      await run.trainer.train({ steps: 5 });
      const after = await parametersOf(run.model);
      for (const name of Object.keys(before)) {
        if (frozen.includes(name)) expect(after[name]).toEqual(before[name]);
        else expect(after[name]).not.toEqual(before[name]);
      }
      await run.close();
    }
  });

  test("leaves routers alone once they are frozen on the way", async () => {
    const config = tinyConfig(text);
    const run = await openRun(config);
    run.optimizer.dispose();
    const optimizer = new Adam(run.model.parameters());
    const batches = new LmBatches(run.corpus.train, config.train);
    const trainer = new Trainer({ model: run.model, optimizer, batches, lr: () => 1e-2, freezeRoutersAt: 3 });
    const embeddings: number[][] = [];
    for await (const { type, step } of trainer.run({ steps: 6 })) {
      if (type !== "step") continue;
      expect(optimizer.updates).toBe(step);
      embeddings.push((await parametersOf(run.model))["routers.source.embeddings"] ?? []);
    }
    expect(embeddings[2]).not.toEqual(embeddings[1]);
    expect(embeddings[3]).toEqual(embeddings[2]);
    expect(embeddings[5]).toEqual(embeddings[2]);
    trainer.dispose();
    optimizer.dispose();
    await run.close();
  });

  test("keeps memory flat over 200 steps, with nothing left to the garbage collector", async () => {
    const run = await openRun(tinyConfig(text, { train: { steps: 220, accumulation: 2 } }));
    const device = run.model.device;
    const live: number[] = [];
    const tensors: number[] = [];
    const { reclaimedByGc } = device.memoryStats();
    for await (const { type, step } of run.train()) {
      if (type !== "step" || step < 20) continue;
      const stats = device.memoryStats();
      live.push(stats.liveBytes);
      tensors.push(stats.tensors);
    }
    expect(live).toHaveLength(201);
    // A pass over the text ends with a shorter batch, whose memory is smaller.
    expect(Math.max(...live.slice(100))).toBeLessThanOrEqual(Math.max(...live.slice(0, 100)));
    expect(Math.max(...tensors.slice(100))).toBeLessThanOrEqual(Math.max(...tensors.slice(0, 100)));
    expect(device.memoryStats().reclaimedByGc).toBe(reclaimedByGc);
    await run.close();
  });

  test("frees everything when the run is closed", async () => {
    const { model } = await openRun(tinyConfig(text));
    const { device } = model;
    model.dispose();
    const before = device.memoryStats();
    await trained(tinyConfig(text));
    const after = device.memoryStats();
    expect(after.tensors).toBe(before.tensors);
    expect(after.liveBytes).toBe(before.liveBytes);
  });

  test("adds up the gradients of column groups", async () => {
    const whole = await trained(tinyConfig(text, { train: { steps: 3, batchSize: 6 } }));
    const groups = await trained(tinyConfig(text, { train: { steps: 3, batchSize: 6, accumulation: 3 } }));
    whole.events.forEach((event, i) => {
      expect(groups.events[i]?.loss).toBeCloseTo(event.loss, 4);
      expect(groups.events[i]?.gradNorm).toBeCloseTo(event.gradNorm, 4);
    });
  });

  test("finishes the running update when it is aborted", async () => {
    const run = await openRun(tinyConfig(text, { train: { steps: 50 } }));
    const stop = new AbortController();
    await run.trainer.train({
      steps: 50,
      signal: stop.signal,
      onStep: ({ step }) => {
        if (step === 4) stop.abort();
      },
    });
    expect(run.optimizer.updates).toBe(4);
    await run.trainer.train({ steps: 6 });
    expect(run.optimizer.updates).toBe(6);
    await run.close();
  });

  test("names the first bad tensor when the loss is no number", async () => {
    const run = await openRun(tinyConfig(text));
    const name = "layers.1.feedForward.experts.w1";
    const parameter = new Map(run.model.namedParameters()).get(name);
    const before = await parametersOf(run.model);
    parameter?.set(new Float32Array(parameter.size).fill(NaN));
    const failure = await run.trainer.train({ steps: 3 }).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(NonFiniteError);
    expect((failure as NonFiniteError).message).toContain(
      `the loss became NaN at step 1; first non-finite tensor: ${name}`,
    );
    // The bad step reached no other parameter.
    const after = await parametersOf(run.model);
    for (const other of Object.keys(before)) if (other !== name) expect(after[other]).toEqual(before[other]);
    await run.close();
  });

  test("refuses more groups than columns", async () => {
    const run = await openRun(tinyConfig(text, { train: { batchSize: 2, accumulation: 3 } }));
    await expect(run.trainer.train({ steps: 1 })).rejects.toThrow(/2 columns cannot be split into 3 groups/);
    await run.close();
  });
});

test("a model starts from the same weights whatever the gate, outside of the routers", async () => {
  const names = (config: RunConfig): Promise<Record<string, number[]>> =>
    parametersOf(buildModel(config, 256));
  const [hyper, learned] = await Promise.all([
    names(tinyConfig(text, { model: { gate: "hyper-router" } })),
    names(tinyConfig(text, { model: { gate: "smoe" } })),
  ]);
  expect(learned["layers.0.attention.qkv.weight"]).toBeDefined();
  expect(hyper["layers.0.attention.qkv.weight"]).toEqual(learned["layers.0.attention.qkv.weight"]);
});
