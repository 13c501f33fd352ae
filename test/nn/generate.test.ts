import { afterAll, describe, expect, test } from "@jest/globals";

import { seededRandom } from "../../lib/data/random.js";
import { ByteTokenizer } from "../../lib/data/tokenizer.js";
import { openDevice } from "../../lib/device.js";
import type { GenerateOptions } from "../../lib/nn/generate.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { sample } from "../../lib/nn/sampling.js";
import { TransformerXL } from "../../lib/nn/transformer-xl.js";
import { scope } from "../../lib/scope.js";
import { indices } from "../../lib/tensor.js";

const device = openDevice("reference");
const options = {
  ...{ vocabSize: 256, numLayers: 2, dModel: 16, numHeads: 2, dInner: 24, memLen: 64, tied: false },
  moe: { numExperts: 4, topK: 2, hyperSize: 8 },
};
const create = (overrides = {}): TransformerXL => {
  // Large weights, for predictions that depend on the context.
  const model = new TransformerXL(
    { ...options, ...overrides },
    new Initializer({ seed: 7, device, std: 0.3 }),
  );
  model.tokenizer = new ByteTokenizer();
  return model;
};
const model = create();
const prompt = "the jury";

const ids = async (overrides: GenerateOptions, from: string | number[] = prompt): Promise<number[]> => {
  const drawn: number[] = [];
  for await (const { id } of model.generate(from, { maxTokens: 24, ...overrides })) drawn.push(id);
  return drawn;
};

/** What generate draws, each token from the whole text so far at once. */
function drawnWithoutMemory(seed: number, experts: number, tokens: number): number[] {
  const text = [...Buffer.from(prompt)];
  const random = seededRandom(seed);
  model.eval().setTopK(experts);
  for (let count = 0; count < tokens; count += 1) {
    const logits = scope(() => model.predict(indices(text, [text.length, 1], device)).logits.dataSync());
    text.push(sample(logits, random()));
  }
  model.train().setTopK(options.moe.topK);
  return text.slice(prompt.length);
}

afterAll(() => {
  model.dispose();
});

describe("generate", () => {
  test("gives the same tokens for the same seed, others for another", async () => {
    const first = await ids({ seed: 5 });
    expect(first).toHaveLength(24);
    expect(await ids({ seed: 5 })).toEqual(first);
    expect(await ids({ seed: 6 })).not.toEqual(first);
    expect(await ids({ seed: 2 ** 40 + 5 })).not.toEqual(first);
  });

  test.each([1, 2, 4])("with memory agrees with reading the whole text again, k = %i", async (experts) => {
    const expected = drawnWithoutMemory(8, experts, 24);
    expect(await ids({ seed: 8, experts })).toEqual(expected);
    expect(new Set(expected).size).toBeGreaterThan(8);
  });

  test("without a seed or a temperature the likeliest token is the only choice", async () => {
    const greedy = await ids({ temperature: 0 });
    expect(await ids({ temperature: 0, seed: 9 })).toEqual(greedy);
    expect(await ids({ topTokens: 1, seed: 9 })).toEqual(greedy);
    expect(await ids({ topP: 1e-9, seed: 9 })).toEqual(greedy);
  });

  test("reads a long prompt in segments, as far as the memory reaches", async () => {
    const long = prompt.repeat(40);
    const greedy = await ids({ temperature: 0, memLen: 400 }, long);
    const text = [...Buffer.from(long)];
    const logits = scope(() => {
      model.eval();
      return model.predict(indices(text, [text.length, 1], device)).logits.dataSync();
    });
    model.train();
    expect(greedy[0]).toBe(logits.indexOf(Math.max(...logits)));
  });

  test("a model that was trained without memory has one here", async () => {
    const forgetful = create({ memLen: 0 });
    const drawn: number[] = [];
    for await (const { id } of forgetful.generate(prompt, { seed: 8, maxTokens: 24 })) drawn.push(id);
    expect(drawn).toEqual(drawnWithoutMemory(8, 2, 24));
    forgetful.dispose();
  });

  test("leaves mode, top-k and memory length alone, also between tokens, and frees everything", async () => {
    model.train();
    const state = (): unknown => [model.training, model.dropout.training, model.topK, model.memLen];
    const before = state();
    await ids({ maxTokens: 1 });
    const { tensors } = device.memoryStats();
    for await (const { id } of model.generate(prompt, { experts: 4, memLen: 3, maxTokens: 5 })) {
      expect(id).toBeGreaterThanOrEqual(0);
      expect(state()).toEqual(before);
    }
    expect(device.memoryStats().tensors).toBe(tensors);
    for await (const { id } of model.generate(prompt)) if (id >= 0) break;
    expect(device.memoryStats().tensors).toBe(tensors);
  });

  test("two at a time do not disturb each other, nor does a scope around them", async () => {
    const [one, two] = [await ids({ seed: 1, experts: 1 }), await ids({ seed: 2, experts: 4 })];
    const both = scope(async () => Promise.all([ids({ seed: 1, experts: 1 }), ids({ seed: 2, experts: 4 })]));
    expect(await both).toEqual([one, two]);
  });

  test("ends without an error when it is aborted", async () => {
    expect(await ids({ signal: AbortSignal.abort() })).toEqual([]);
    const stop = new AbortController();
    let count = 0;
    for await (const { id } of model.generate(prompt, { signal: stop.signal })) {
      count += id >= 0 ? 1 : 0;
      if (count === 3) stop.abort();
    }
    expect(count).toBe(3);
  });

  test("refuses options out of range, unknown symbols and empty prompts", async () => {
    for (const [overrides, message] of [
      [{ temperature: -1 }, /"temperature" is -1\n {2}fix: use 0 or more/],
      [{ temperature: NaN }, /"temperature" is NaN/],
      [{ topTokens: 0 }, /"topTokens" is 0/],
      [{ topP: 0 }, /"topP" is 0\n {2}fix: use more than 0 and at most 1/],
      [{ maxTokens: -1 }, /"maxTokens" is -1/],
      [{ seed: 0.5 }, /"seed" is 0.5/],
      [{ experts: 5 }, /there are 4 experts/],
    ] as const) {
      await expect(ids(overrides)).rejects.toThrow(message);
    }
    await expect(ids({}, "")).rejects.toThrow(/prompt length/);
    await expect(ids({}, [300])).rejects.toThrow(/300/);
    expect(model.topK).toBe(2);
  });

  test("names a model that diverged", async () => {
    const broken = create();
    broken.contentBias.value.set(new Float64Array(broken.contentBias.size).fill(NaN));
    await expect(broken.generate(prompt).next()).rejects.toThrow(/NaN or infinite/);
    broken.dispose();
  });
});

test("the texts of all tokens are the decoded text, a character cut at its end included", async () => {
  for (let seed = 0; seed < 20; seed += 1) {
    const drawn: number[] = [];
    let text = "";
    for await (const token of model.generate(prompt, { maxTokens: 6, seed })) {
      drawn.push(token.id);
      text += token.text;
    }
    expect(text).toBe(model.tokenizer!.decode(drawn));
  }
});

test("without a tokenizer there are ids only", async () => {
  const { tokenizer } = model;
  model.tokenizer = null;
  await expect(ids({})).rejects.toThrow(/no tokenizer[^]*model\.tokenizer/);
  for await (const { text } of model.generate([1, 2], { maxTokens: 2 })) expect(text).toBe("");
  model.tokenizer = tokenizer;
});
