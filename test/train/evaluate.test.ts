import { describe, expect, test } from "@jest/globals";

import { doublingTopKs, evaluate, sweepTopK } from "../../lib/train/evaluate.js";
import { openRun } from "../../lib/train/run.js";
import { scope } from "../../lib/scope.js";
import { indices } from "../../lib/tensor.js";
import { tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();
const run = await openRun(tinyConfig(text, { train: { steps: 60, lr: 1e-2 } }));
await run.trainer.train({ steps: 60 });
const { model, corpus } = run;

describe("evaluate", () => {
  test("is the token-weighted mean over segments, with memory carried along", async () => {
    const [batchSize, seqLen] = [3, 20];
    const result = await evaluate(model, corpus.test, { batchSize, seqLen });
    const columnLength = Math.floor(corpus.test.length / batchSize);
    expect(result.tokens).toBe((columnLength - 1) * batchSize);
    expect(result.bpc).toBeCloseTo(result.nats / Math.LN2, 12);
    expect(result.perplexity).toBeCloseTo(Math.exp(result.nats), 10);

    // Again by hand, one column at a time.
    model.eval();
    let sum = 0;
    for (let column = 0; column < batchSize; column += 1) {
      const ids = await corpus.test.read(column * columnLength, columnLength);
      let memory = null;
      for (let begin = 0; begin < columnLength - 1; begin += seqLen) {
        const length = Math.min(seqLen, columnLength - 1 - begin);
        const step = model.loss(
          indices(ids.slice(begin, begin + length), [length, 1]),
          indices(ids.slice(begin + 1, begin + 1 + length), [length, 1]),
          memory,
        );
        memory = step.memory;
        for (const nll of await step.nll.data()) sum += nll;
      }
    }
    expect(result.nats).toBeCloseTo(sum / result.tokens, 4);
  });

  test("puts mode, memory length and top-k back", async () => {
    model.train();
    const before = { topK: model.topK, memLen: model.memLen };
    await evaluate(model, corpus.test, { topK: 4, memLen: 3, maxBatches: 1 });
    expect({ topK: model.topK, memLen: model.memLen }).toEqual(before);
    expect(model.training).toBe(true);
    await expect(evaluate(model, corpus.test, { topK: 5 })).rejects.toThrow(/there are 4 experts/);
    expect(model.topK).toBe(before.topK);
  });

  test("reports entropies between 0 and ln E and loads that sum to 1", async () => {
    const { routerEntropy, expertLoad } = await evaluate(model, corpus.test);
    expect(routerEntropy).toHaveLength(2);
    for (const entropy of routerEntropy) {
      expect(entropy).toBeGreaterThan(0);
      expect(entropy).toBeLessThanOrEqual(Math.log(4));
    }
    for (const load of expertLoad) {
      expect(load).toHaveLength(4);
      expect(load.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    }
  });

  test("sweeps over the number of experts", async () => {
    const results = await sweepTopK(model, corpus.test, doublingTopKs(4));
    expect(results.map(({ topK }) => topK)).toEqual([1, 2, 4]);
    expect(new Set(results.map(({ nats }) => nats)).size).toBe(3);
    // With all experts the load is even by definition.
    for (const load of results[2]?.expertLoad ?? [])
      for (const share of load) expect(share).toBeCloseTo(0.25, 12);
  });

  test("stops when it is aborted", async () => {
    await expect(
      evaluate(model, corpus.test, { signal: AbortSignal.abort(new Error("enough")) }),
    ).rejects.toThrow("enough");
  });
});

test.each([
  [16, [1, 2, 4, 8, 16]],
  [6, [1, 2, 4, 6]],
  [1, [1]],
])("doubling up to %i experts", (numExperts, expected) => {
  expect(doublingTopKs(numExperts)).toEqual(expected);
});

test("predictions agree with the loss", async () => {
  model.eval();
  const ids = await corpus.test.read(0, 11);
  const { logits } = model.predict(indices(ids.slice(0, 10), [10, 1]));
  const { nll } = model.loss(indices(ids.slice(0, 10), [10, 1]), indices(ids.slice(1), [10, 1]));
  const values = [...(await logits.data())];
  const lse = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
  expect(lse - (values[ids[10] ?? 0] ?? NaN)).toBeCloseTo((await nll.data())[9] ?? NaN, 4);
});

test("scopes free what generation and evaluation made", async () => {
  const before = model.device.memoryStats().tensors;
  await scope(async () => {
    await evaluate(model, corpus.test, { maxBatches: 2 });
    for await (const { id } of model.generate([65], { maxTokens: 3 })) expect(id).toBeLessThan(256);
  });
  expect(model.device.memoryStats().tensors).toBe(before);
});
