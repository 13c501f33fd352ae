import { describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import { openDevice } from "../../lib/device.js";
import { ConfigError } from "../../lib/errors.js";
import { AdaptiveEmbedding } from "../../lib/nn/adaptive-embedding.js";
import { AdaptiveLogSoftmax, type AdaptiveLogSoftmaxOptions } from "../../lib/nn/adaptive-log-softmax.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { sum } from "../../lib/ops/reduce.js";
import { type FloatTensor, indices } from "../../lib/tensor.js";

const device = openDevice("reference");
const vocabSize = 11;

function hiddenStates(count: number, dModel: number): FloatTensor {
  return new Initializer({ device, seed: 9, std: 1 }).normal([count, dModel]).value;
}

const variants: Record<string, Omit<AdaptiveLogSoftmaxOptions, "vocabSize" | "dModel">> = {
  plain: { dEmbed: 6 },
  "projected to narrower embeddings": { dEmbed: 4 },
  "two tails, one table": { dEmbed: 6, cutoffs: [3, 7] },
  "two tails, narrower each": { dEmbed: 6, cutoffs: [3, 7], divVal: 2 },
  "head of one id": { dEmbed: 6, cutoffs: [1, 10] },
};

describe("AdaptiveLogSoftmax", () => {
  test.each(Object.entries(variants))("%s: logits and losses agree for every id", (_, options) => {
    const init = new Initializer({ device, std: 0.5 });
    const softmax = new AdaptiveLogSoftmax({ vocabSize, dModel: 6, projectionStd: 0.5, ...options }, init);
    const hidden = hiddenStates(3, 6);
    const logits = softmax.logits(hidden);
    expect(logits.shape).toEqual([3, vocabSize]);
    const scores = logits.dataSync();
    for (let id = 0; id < vocabSize; id += 1) {
      const nll = softmax.forward(hidden, indices([id, id, id], [3], device)).dataSync();
      for (let row = 0; row < 3; row += 1) {
        const values = [...scores.subarray(row * vocabSize, (row + 1) * vocabSize)];
        const lse = Math.log(values.reduce((total, value) => total + Math.exp(value), 0));
        expect(nll[row]).toBeCloseTo(lse - values[id]!, 12);
      }
    }
  });

  test("a tied table gets the gradients of both uses", () => {
    const options = { vocabSize, dModel: 6, dEmbed: 6, cutoffs: [3, 7] };
    const ids = indices([0, 4, 8, 10], [4], device);
    const build = (tied: boolean) => {
      const init = new Initializer({ device, std: 0.5 });
      const embedding = new AdaptiveEmbedding(options, init);
      return {
        embedding,
        softmax: new AdaptiveLogSoftmax({ ...options, embedding: tied ? embedding : null }, init),
      };
    };
    const [tied, apart] = [build(true), build(false)];
    apart.softmax.weights[0]!.set(tied.softmax.weights[0]!.value.dataSync());
    apart.softmax.clusterWeight!.set(tied.softmax.clusterWeight!.value.dataSync());
    for (const { embedding, softmax } of [tied, apart]) {
      backward(() => sum(softmax.forward(embedding.forward(ids), ids)));
    }
    const parts = [apart.embedding.tables[0]!.weight, apart.softmax.weights[0]!].map((p) =>
      p.gradient().dataSync(),
    );
    const both = tied.embedding.tables[0]!.weight.gradient().dataSync();
    both.forEach((value, i) => expect(value).toBeCloseTo(parts[0]![i]! + parts[1]![i]!, 12));
  });

  test("tieProjections shares the projections of the clusters it names", () => {
    const options = { vocabSize, dModel: 6, dEmbed: 6, cutoffs: [3, 7], divVal: 2 };
    const embedding = new AdaptiveEmbedding(options, new Initializer({ device }));
    const init = new Initializer({ device });
    const softmax = new AdaptiveLogSoftmax(
      { ...options, embedding, tieProjections: [false, true, true] },
      init,
    );
    expect(softmax.projections.map((projection, i) => projection === embedding.projections[i])).toEqual([
      false,
      true,
      true,
    ]);
  });

  test.each([
    { cutoffs: [5, 5] },
    { cutoffs: [0] },
    { cutoffs: [vocabSize] },
    { cutoffs: [7, 3] },
    { cutoffs: [3, 7], divVal: 3 },
    { divVal: 0 },
    { dEmbed: 0 },
  ])("refuses %j", (options) => {
    const all = { vocabSize, dModel: 6, dEmbed: 6, ...options };
    expect(() => new AdaptiveLogSoftmax(all, new Initializer({ device }))).toThrow(ConfigError);
  });
});
