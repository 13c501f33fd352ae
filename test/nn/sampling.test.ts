import { describe, expect, test } from "@jest/globals";

import { sample, type SamplingOptions } from "../../lib/nn/sampling.js";

/** How often each index is drawn, with `u` at the middle of `n` equal intervals. */
function shares(logits: readonly number[], options: SamplingOptions, n = 10_000): number[] {
  const counts = logits.map(() => 0);
  for (let i = 0; i < n; i += 1) counts[sample(logits, (i + 0.5) / n, options)]! += 1 / n;
  return counts;
}

const probabilities = [0.1, 0.4, 0.05, 0.25, 0.2];
const logits = probabilities.map((p) => Math.log(p) + 3);
const expectShares = (options: SamplingOptions, expected: readonly number[]): void => {
  const total = expected.reduce((sum, weight) => sum + weight, 0);
  const drawn = shares(logits, options);
  drawn.forEach((share, id) => expect(share).toBeCloseTo(expected[id]! / total, 3));
};

describe("sample", () => {
  test("follows the softmax", () => {
    expectShares({}, probabilities);
  });

  test("a temperature raises probabilities to 1 / temperature", () => {
    expectShares(
      { temperature: 0.5 },
      probabilities.map((p) => p ** 2),
    );
    expectShares({ temperature: 2 }, probabilities.map(Math.sqrt));
    expectShares({ temperature: 0 }, [0, 1, 0, 0, 0]);
    expectShares({ temperature: 1e-300 }, [0, 1, 0, 0, 0]);
  });

  test("topTokens keeps the likeliest", () => {
    expectShares({ topTokens: 3 }, [0, 0.4, 0, 0.25, 0.2]);
    expectShares({ topTokens: 1 }, [0, 1, 0, 0, 0]);
    expectShares({ topTokens: 99 }, probabilities);
  });

  test("topP keeps the fewest that reach the probability", () => {
    expectShares({ topP: 0.6 }, [0, 0.4, 0, 0.25, 0]);
    expectShares({ topP: 0.66 }, [0, 0.4, 0, 0.25, 0.2]);
    expectShares({ topP: 0.001 }, [0, 1, 0, 0, 0]);
    // 0.6 of what three tokens have together.
    expectShares({ topTokens: 3, topP: 0.6 }, [0, 0.4, 0, 0.25, 0]);
  });

  test("of equal logits the lower index is kept", () => {
    expect(shares([1, 5, 5, 5, 0], { topTokens: 2 }, 100)).toEqual([
      0,
      expect.closeTo(0.5),
      expect.closeTo(0.5),
      0,
      0,
    ]);
    expect(shares([2, 2, 2, 2], { topP: 0.5 }, 100)).toEqual([
      expect.closeTo(0.5),
      expect.closeTo(0.5),
      0,
      0,
    ]);
  });

  test("never draws what has no probability, at either end", () => {
    const sharp = [-2000, 0, -2000];
    for (const u of [0, 1 - 2 ** -32]) expect(sample(sharp, u)).toBe(1);
  });
});
