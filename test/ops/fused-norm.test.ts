import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { ValueError } from "../../lib/errors.js";
import { combine, dispatch, type RoutedRows } from "../../lib/ops/dispatch.js";
import { expertRows } from "../../lib/ops/grouped-gemm.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, indices, tensor } from "../../lib/tensor.js";
import { checkFusedNorm, fusedNormSizes } from "../support/fused-norm.js";
import { instructionSets, poisoned } from "../support/op-harness.js";

// Experts, residual and norm in one op give the bits of two ops.
describe.each(["reference", ...instructionSets()])("%s", (name) => {
  const device = poisoned(name, 2);
  test.each(fusedNormSizes)("%j", (sizes) => {
    checkFusedNorm(device, sizes);
  });
});

// Two tokens of width 1 through two experts that add 1 and 2: y = (x + 1) / 2 + (x + 2) / 2.
describe.each([
  ["rows in expert order", false],
  ["rows that are summed already", true],
])("%s are good for one use", (_, dense) => {
  const device = openDevice("reference");
  const numbers = (values: number[], ...shape: number[]): FloatTensor => tensor(values, shape, device);
  const norm = (branch: RoutedRows): FloatTensor =>
    layerNorm(numbers([0, 0], 2, 1), branch, numbers([1], 1), numbers([0], 1));

  test.each([
    ["combine", "combine", combine, combine],
    ["combine", "layerNorm", combine, norm],
    ["layerNorm", "combine", norm, combine],
    ["layerNorm", "layerNorm", norm, norm],
  ])("%s, then %s", (_, op, first, second) => {
    scope(() => {
      const routed = dispatch(indices([0, 1, 1, 0], [2, 2], device), 2, dense);
      const rows = expertRows(numbers([3, 5], 2, 1), numbers([0.5, 0.5, 0.5, 0.5], 2, 2), routed, {
        ...{ w1: numbers([1, 1], 2, 1, 1), b1: numbers([0, 0], 2, 1) },
        ...{ w2: numbers([1, 1], 2, 1, 1), b2: numbers([1, 2], 2, 1) },
      });
      const y = first(rows);
      const expected = first === combine ? [4.5, 6.5] : [0, 0];
      expect(() => second(rows)).toThrow(
        expect.objectContaining({
          name: ValueError.name,
          op,
          reason: expect.stringMatching(/has summed and freed before$/),
          fix: expect.stringMatching(/^sum them once, with combine\(\)/),
        }),
      );
      // What the first made of them is still there.
      expect([...y.dataSync()]).toEqual(expected);
    });
  });
});
