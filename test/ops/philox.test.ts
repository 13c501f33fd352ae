import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { dropout } from "../../lib/ops/dropout.js";
import { randomNormal, randomUniform } from "../../lib/ops/random.js";
import { type FloatTensor, tensor } from "../../lib/tensor.js";
import { sumOf } from "../support/nd-array.js";
import { philox4x32 } from "../support/philox.js";

const device = openDevice("cpu", { threads: 2 });

// Known answers of Random123 (Salmon et al. 2011) for Philox4x32-10.
const ones = 0xffffffff;
const known = [
  { counter: [0, 0, 0, 0], key: [0, 0], words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [ones, ones, ones, ones],
    key: [ones, ones],
    words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
];

describe("Philox", () => {
  test.each(known)("the oracle gives the known answer for $counter", ({ counter, key, words }) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });

  test("so does the addon, 24 bits of each word", () => {
    const u = randomUniform([4], 0, 1, { seed: 0, call: 0 }, device);
    expect(Array.from(u.dataSync(), (x) => x * 2 ** 24)).toEqual(known[0]!.words.map((word) => word >>> 8));
    u.dispose();
  });
});

/** Mean and variance of the elements. */
function moments(x: FloatTensor): { mean: number; variance: number } {
  const values = x.dataSync();
  const mean = sumOf(values.length, (i) => values[i]!) / values.length;
  const variance = sumOf(values.length, (i) => (values[i]! - mean) ** 2) / values.length;
  x.dispose();
  return { mean, variance };
}

describe("distributions", () => {
  const count = 200_000;
  const call = { seed: 17, call: 1 };

  test("uniform numbers fill their range evenly", () => {
    const { mean, variance } = moments(randomUniform([count], -1, 3, call, device));
    expect(mean).toBeCloseTo(1, 1);
    expect(variance).toBeCloseTo(16 / 12, 1);
  });

  test("normal numbers have the mean and deviation asked for", () => {
    const { mean, variance } = moments(randomNormal([count], 2, 3, call, device));
    expect(mean).toBeCloseTo(2, 1);
    expect(Math.sqrt(variance)).toBeCloseTo(3, 1);
  });

  test("dropout drops with its probability and keeps the mean", () => {
    const x = tensor(new Float32Array(count).fill(1), [count], device);
    const y = dropout(x, { probability: 0.3, ...call });
    const dropped = y.dataSync().filter((value) => value === 0).length / count;
    expect(dropped).toBeCloseTo(0.3, 2);
    expect(moments(y).mean).toBeCloseTo(1, 2);
    x.dispose();
  });

  test("another call, or another seed, gives other numbers", () => {
    const draw = (seed: number, number: number): string =>
      randomUniform([8], 0, 1, { seed, call: number }, device).dataSync().join();
    expect(new Set([draw(1, 1), draw(1, 2), draw(2, 1), draw(1, 2 ** 32 + 1)]).size).toBe(4);
    expect(draw(1, 1)).toBe(draw(1, 1));
  });
});
