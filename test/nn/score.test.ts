import { afterAll, expect, test } from "@jest/globals";

import { wordFormat } from "../../lib/data/text-format.js";
import { ByteTokenizer, SymbolTokenizer } from "../../lib/data/tokenizer.js";
import { Vocabulary } from "../../lib/data/vocabulary.js";
import { openDevice } from "../../lib/device.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { TransformerXL } from "../../lib/nn/transformer-xl.js";
import { scope } from "../../lib/scope.js";
import { indices } from "../../lib/tensor.js";

const device = openDevice("reference");
const model = new TransformerXL(
  {
    ...{ vocabSize: 256, numLayers: 2, dModel: 16, numHeads: 2, dInner: 24, memLen: 64 },
    moe: { numExperts: 4, topK: 2, hyperSize: 8 },
  },
  new Initializer({ seed: 7, device }),
);
model.tokenizer = new ByteTokenizer();
const text = "the jury said é the jury";
const bytes = [...Buffer.from(text)];

afterAll(() => {
  model.dispose();
});

/** Negative log-likelihoods of a whole text at once. */
function nllAtOnce(ids: readonly number[]): Float64Array {
  return scope(() => {
    const shape = [ids.length - 1, 1] as const;
    return model
      .loss(indices(ids.slice(0, -1), shape, device), indices(ids.slice(1), shape, device))
      .nll.dataSync();
  }) as Float64Array;
}

test.each([1, 5, 128])("segments of %i tokens give the same as the whole text", async (seqLen) => {
  const { nll, nats, bitsPerToken, bpc, tokens } = await model.score(text, { seqLen });
  const expected = nllAtOnce(bytes);
  expect(tokens).toBe(expected.length);
  nll.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 12));
  const sum = expected.reduce((total, value) => total + value, 0);
  expect(nats).toBeCloseTo(sum / tokens, 12);
  expect(bitsPerToken).toBeCloseTo(nats / Math.LN2, 12);
  // One character has two bytes.
  expect(bpc).toBeCloseTo(sum / Math.LN2 / (tokens - 1), 12);
});

test("a text and its ids score the same; options are put back and memory is freed", async () => {
  const whole = await model.score(text);
  const { tensors } = device.memoryStats();
  expect(await model.score(bytes)).toEqual(whole);
  expect((await model.score(text, { experts: 4 })).nats).not.toBe(whole.nats);
  expect((await model.score(text, { memLen: 0, seqLen: 4 })).nats).not.toBe(whole.nats);
  expect([model.topK, model.memLen, model.training]).toEqual([2, 64, true]);
  expect(device.memoryStats().tensors).toBe(tensors);
});

test("bits per character of words count their spaces and line ends", async () => {
  const words = new Vocabulary(["<eos>", "the", "jury", ...Array.from({ length: 253 }, (_, i) => `w${i}`)]);
  model.tokenizer = new SymbolTokenizer(wordFormat({ end: "<eos>" }), words);
  const { nats, bpc, tokens } = await model.score("the jury\nthe");
  model.tokenizer = null;
  expect(tokens).toBe(3);
  expect(bpc).toBeCloseTo((nats * 3) / Math.LN2 / " jury\nthe".length, 12);
  expect((await model.score([1, 2, 0, 1])).bpc).toBeNull();
  model.tokenizer = new ByteTokenizer();
});

test("refuses what cannot be scored, and throws the signal's reason", async () => {
  await expect(model.score("x")).rejects.toThrow(/"number of tokens" is 1/);
  await expect(model.score(text, { seqLen: 0 })).rejects.toThrow(/"seqLen" is 0/);
  await expect(model.score(text, { signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow(
    "enough",
  );
});
