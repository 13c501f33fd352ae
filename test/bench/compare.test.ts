import { expect, test } from "@jest/globals";

import { type Comparison, measureComparisons, type Runner } from "../../bench/compare.js";

/** A machine that does 100 FLOP/s with one thread. */
const peak = {
  multiplyAdd: (threads: number) => ({ perSecond: 100 * threads, perCpuSecond: 100 }),
};

test("medians, their ratio, the share of the peak, and turns", async () => {
  const calls: string[] = [];
  const runner = (name: string, seconds: number[]): Runner => {
    let call = 0;
    return async () => {
      calls.push(name);
      return seconds[call++] ?? NaN;
    };
  };
  const comparison: Comparison = {
    ...{ name: "add", rival: "other", settings: "", threads: 2, flops: 100, target: 0.5 },
    // Every other run is a warm-up.
    ours: runner("ours", [9, 1, 9, 5, 9, 2]),
    theirs: runner("theirs", [9, 4, 9, 4, 9, 8]),
  };
  const [result] = await measureComparisons([comparison], { peak, rounds: 3 });
  expect(calls.join(" ")).toBe(Array(3).fill("ours ours theirs theirs").join(" "));
  expect(result).toMatchObject({ seconds: { ours: 2, theirs: 4 }, ratio: 0.5, shareOfPeak: 0.25 });
  expect(result?.samples).toMatchObject({ ours: [1, 5, 2], theirs: [4, 4, 8] });
});
