import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { ShapeError, ValueError } from "../../lib/errors.js";
import { dispatch } from "../../lib/ops/dispatch.js";
import { axpby, cast, fill } from "../../lib/ops/elementwise.js";
import { linear, matmul } from "../../lib/ops/gemm.js";
import { adagrad, adam, sgd } from "../../lib/ops/optim.js";
import { clipFactor, countNonFinite } from "../../lib/ops/reduce.js";
import { routerEntropy, routerTopK } from "../../lib/ops/router.js";
import { scope } from "../../lib/scope.js";
import { indices, tensor, type Tensor, zeros } from "../../lib/tensor.js";

// The typed functions that have no gradient, and the results that are no floats. All others: gradients.test.ts.

const device = openDevice("reference");

const numbers = (t: Tensor): number[] => Array.from(t.dataSync());

function inScope(name: string, body: () => void): void {
  test(name, () => {
    scope(body);
  });
}

describe("in place", () => {
  inScope("fill and axpby", () => {
    const t = zeros([3], device);
    fill(t, 2);
    axpby(10, tensor([1, 2, 3], [3], device), -1, t);
    expect(numbers(t)).toEqual([8, 18, 28]);
  });

  inScope("adam, sgd and adagrad take one step", () => {
    const make = (value: number): Tensor<"f32" | "f64"> => tensor([value], [1], device);
    const [p, q, r, g] = [make(1), make(1), make(1), make(0.5)];
    const scalars = { lr: 0.1, beta1: 0.9, beta2: 0.999, eps: 0, weightDecay: 0, decoupled: false, step: 1 };
    adam(p, g, make(0), make(0), null, scalars);
    sgd(q, g, null, make(0.5), { lr: 0.1, momentum: 0, weightDecay: 0, nesterov: false });
    adagrad(r, g, make(0), null, { lr: 0.1, eps: 0, weightDecay: 0 });
    // Adam's and Adagrad's first steps have the size of the learning rate.
    expect([p, q, r].map((t) => Number(numbers(t)[0]!.toFixed(12)))).toEqual([0.9, 0.975, 0.9]);
  });
});

describe("results without gradient", () => {
  inScope("cast keeps the shape", () => {
    const t = cast(tensor([1.5, -2.7, 3e10], [3, 1], device), "i32");
    expect(t).toMatchObject({ dtype: "i32", shape: [3, 1] });
    expect(numbers(t)).toEqual([1, -2, 2147483647]);
  });

  inScope("clipFactor takes the joint norm of several buffers", () => {
    const { norm, factor } = clipFactor([tensor([3], [1], device), tensor([4, 0], [2], device)], 1);
    expect(numbers(norm)).toEqual([5]);
    expect(numbers(factor)[0]).toBeCloseTo(0.2, 6);
    expect(() => clipFactor([], 1)).toThrow(ValueError);
  });

  inScope("countNonFinite", () => {
    expect(numbers(countNonFinite(tensor([1, NaN, -Infinity], [3], device)))).toEqual([2]);
  });

  inScope("routerEntropy of equal logits is ln E", () => {
    expect(numbers(routerEntropy(zeros([5, 8], device)))[0]).toBeCloseTo(Math.log(8), 12);
  });

  inScope("dispatch", () => {
    const routed = dispatch(indices([1, 0, 0, -1, 2, 1], [3, 2], device), 3);
    expect(routed.topK).toBe(2);
    expect(numbers(routed.expertOffsets)).toEqual([0, 2, 4, 5]);
    expect(numbers(routed.permutation)).toEqual([1, 2, 0, 5, 4, -1]);
    expect(numbers(routed.inversePermutation)).toEqual([2, 0, 1, -1, 4, 3]);
  });

  inScope("routerTopK chooses the best first", () => {
    const x = tensor([1, 0, 0, 1], [2, 2], device);
    const { logits, expertIndices, expertWeights } = routerTopK(
      x,
      tensor([1, 2, 3, 2, 2, 2], [3, 2], device),
      null,
      2,
    );
    expect(numbers(logits)).toEqual([1, 3, 2, 2, 2, 2]);
    expect(numbers(expertIndices)).toEqual([1, 2, 0, 1]);
    expect(numbers(expertWeights).slice(2)).toEqual([0.5, 0.5]);
  });
});

describe("shapes that do not fit", () => {
  inScope("are refused by name", () => {
    const x = zeros([2, 3], device);
    expect(() => matmul(x, x)).toThrow(ShapeError);
    expect(() => matmul(x, x)).toThrow('gemm: "b" has shape [2, 3], expected [k=3, n=3]');
    expect(() => linear(zeros([4, 2], device), x)).toThrow('gemm: "b" has shape [2, 3], expected [n=2, k=2]');
  });
});
