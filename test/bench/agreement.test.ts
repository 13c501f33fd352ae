import { expect, test } from "@jest/globals";

import { checkAgreement } from "../../bench/agreement.js";
import type { HostTensors } from "../../bench/workload.js";

function tensors(values: Record<string, number[]>): HostTensors {
  return new Map(
    Object.entries(values).map(([name, data]) => [
      name,
      { dtype: "F32", shape: [data.length], data: Float32Array.from(data) },
    ]),
  );
}

const expected = tensors({ y: [3, 4], "w.gradient": [1, 0] });

test("rounding is no difference, nor is what only one side has", () => {
  expect(() => {
    checkAgreement("peer", tensors({ y: [3.0001, 4], "w.gradient": [1, 0], z: [1] }), expected);
  }).not.toThrow();
});

test.each([
  [
    "another value",
    { y: [3, 4.01], "w.gradient": [1, 0] },
    /^peer computes something else: y differs by 2\.0e-3$/,
  ],
  ["NaN", { y: [3, NaN], "w.gradient": [1, 0] }, /y differs by NaN/],
  ["another shape", { y: [3, 4], "w.gradient": [1, 0, 0] }, /: w\.gradient differs by Infinity/],
  ["a missing tensor", { y: [3, 4] }, /w\.gradient differs by Infinity/],
])("%s is named", (_, actual, message) => {
  expect(() => {
    checkAgreement("peer", tensors(actual), expected);
  }).toThrow(message);
});

test("zeros agree with zeros", () => {
  expect(() => {
    checkAgreement("peer", tensors({ y: [0, 0] }), tensors({ y: [0, 0] }));
  }).not.toThrow();
});

test("nothing to compare is refused", () => {
  expect(() => {
    checkAgreement("peer", tensors({ y: [1] }), new Map());
  }).toThrow("peer gave nothing to compare");
});
