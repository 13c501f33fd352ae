import { describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import { openDevice } from "../../lib/device.js";
import { MoELayer } from "../../lib/moe/moe-layer.js";
import { route, type Router } from "../../lib/moe/router.js";
import { gates } from "../../lib/moe/gates.js";
import { Dropout } from "../../lib/nn/dropout.js";
import { FeedForward } from "../../lib/nn/feed-forward.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { requireGrad } from "../../lib/nn/parameter.js";
import { ResidualNorm } from "../../lib/nn/residual-norm.js";
import { mul } from "../../lib/ops/elementwise.js";
import { sum } from "../../lib/ops/reduce.js";
import { routerEntropy } from "../../lib/ops/router.js";
import { type FloatTensor, tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("reference");
const [dModel, dInner] = [3, 5];

function build(numExperts: number, activation: "relu" | "gelu" = "relu") {
  const init = new Initializer({ device, std: 0.7 });
  const dropout = new Dropout(0, init.stream("dropout"));
  const layer = new MoELayer({ numExperts, dModel, dInner, dropout, activation }, init);
  for (const bias of [layer.experts.b1, layer.experts.b2]) bias.set(init.normal(bias.shape).value.dataSync());
  return { init, dropout, layer };
}

function routerOf(init: Initializer, numExperts: number, topK: number): Router {
  const [weight, bias] = [init.normal([numExperts, dModel], { std: 1 }).value, zeros([numExperts], device)];
  return { weight, bias, topK, gate: gates.smoe };
}

describe("MoELayer", () => {
  test("one expert is a dense feed-forward network", () => {
    const { init, dropout, layer } = build(1);
    const dense = new FeedForward({ dModel, dInner, dropout }, init);
    const { w1, b1, w2, b2 } = layer.experts;
    dense.inner.weight.set(w1.value.dataSync());
    dense.inner.bias!.set(b1.value.dataSync());
    dense.outer.weight.set(w2.value.dataSync());
    dense.outer.bias!.set(b2.value.dataSync());
    const x = init.normal([4, 2, dModel], { std: 1 }).value;
    const { y } = layer.forward(x, routerOf(init, 1, 1));
    expect(y.shape).toEqual(x.shape);
    const expected = dense.forward(x).dataSync();
    y.dataSync().forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 12));
  });

  test.each([
    { tokens: 1, numExperts: 4, topK: 1 },
    { tokens: 1, numExperts: 4, topK: 4 },
    { tokens: 7, numExperts: 3, topK: 3 },
    { tokens: 5, numExperts: 6, topK: 2 },
  ])("gradients match finite differences: %j", ({ tokens, numExperts, topK }) => {
    const { init, layer } = build(numExperts, "gelu");
    const router = routerOf(init, numExperts, topK);
    const x = init.normal([tokens, dModel], { std: 1 }).value;
    const cotangent = init.normal([tokens, dModel], { std: 1 }).value;
    const inputs: FloatTensor[] = [
      x,
      router.weight,
      router.bias,
      ...layer.parameters().map(({ value }) => value),
    ];
    for (const input of inputs) if (!input.leaf) requireGrad(input);
    for (const input of inputs) input.leaf!.gradient().set(new Float64Array(input.size));
    const loss = () => sum(mul(layer.forward(x, router).y, cotangent));
    backward(loss);
    for (const input of inputs) {
      const gradient = input.leaf!.gradient().dataSync();
      const values = input.dataSync();
      const at = (i: number, step: number): number => {
        input.set(Float64Array.from(values, (value, j) => (i === j ? value + step : value)));
        return loss().dataSync()[0]!;
      };
      for (let i = 0; i < input.size; i += Math.ceil(input.size / 6)) {
        const h = 1e-4;
        const slope = (8 * (at(i, h) - at(i, -h)) - (at(i, 2 * h) - at(i, -2 * h))) / (12 * h);
        expect(gradient[i]).toBeCloseTo(slope, 8);
      }
      input.set(Float64Array.from(values));
    }
  });

  test("k = E: the dense path gives the results of the other", () => {
    const { init, layer } = build(4);
    const x = init.normal([7, dModel], { std: 1 });
    const cotangent = init.normal([7, dModel], { std: 1 }).value;
    const router = routerOf(init, 4, 4);
    const trained = [x, ...layer.parameters()];
    const [dense, sparse] = [true, false].map((dense) => {
      for (const parameter of trained) parameter.gradient().set(new Float64Array(parameter.size));
      const { y } = backward(() => {
        const y = layer.experts.forward(x.value, { ...route(x.value, router), dense });
        return { loss: sum(mul(y, cotangent)), y };
      });
      return [y, ...trained.map((parameter) => parameter.gradient())].flatMap((t) => [...t.dataSync()]);
    });
    dense!.forEach((value, i) => expect(value).toBeCloseTo(sparse![i]!, 12));
  });

  test("takes the dense path for many tokens that go to all experts", () => {
    const isDense = (numTokens: number, topK: number): boolean => {
      const [weight, bias] = [zeros([2, 256], device), zeros([2], device)];
      return route(zeros([numTokens, 256], device), { weight, bias, topK, gate: gates.smoe }).dense;
    };
    expect([isDense(2048, 2), isDense(2047, 2), isDense(2048, 1)]).toEqual([true, false, false]);
  });

  test.each([false, true])("a norm around the experts is that around y; preNorm %j", (preNorm) => {
    const { init, dropout, layer } = build(4);
    const norm = new ResidualNorm({ d: dModel, preNorm, dropout }, init);
    const x = init.normal([3, 2, dModel], { std: 1 });
    const cotangent = init.normal(x.shape, { std: 1 }).value;
    const router = routerOf(init, 4, 2);
    const trained = [x, ...layer.parameters(), ...norm.parameters()];
    const results = [
      () => layer.forward(x.value, router, norm).y,
      () => norm.output(x.value, layer.forward(norm.input(x.value), router).y),
    ].map((forward) => {
      for (const parameter of trained) parameter.gradient().set(new Float64Array(parameter.size));
      const { y } = backward(() => {
        const y = forward();
        return { loss: sum(mul(y, cotangent)), y };
      });
      expect(y.shape).toEqual(x.shape);
      return [y, ...trained.map((parameter) => parameter.gradient())].flatMap((t) => [...t.dataSync()]);
    });
    results[0]!.forEach((value, i) => expect(value).toBeCloseTo(results[1]![i]!, 12));
  });

  test("all tokens to one expert: the others get exactly zero gradient", () => {
    const { init, layer } = build(3);
    const bias = tensor([0, 9, 0], [3], device);
    const router = { ...routerOf(init, 3, 1), weight: zeros([3, dModel], device), bias };
    const { routing } = backward(() => {
      const { y, routing } = layer.forward(init.normal([6, dModel]).value, router);
      return { loss: sum(y), routing };
    });
    expect([...routing.expertOffsets.dataSync()]).toEqual([0, 0, 6, 6]);
    const gradient = layer.experts.b2.gradient().dataSync();
    expect([...gradient]).toEqual([0, 0, 0, 6, 6, 6, 0, 0, 0]);
  });

  test("statistics: entropy of the router, and where the pairs went", () => {
    const { init, layer } = build(4);
    const router = { ...routerOf(init, 4, 2), weight: zeros([4, dModel], device) };
    const { routing } = layer.forward(init.normal([5, dModel]).value, router);
    expect(routerEntropy(routing.logits).dataSync()[0]).toBeCloseTo(Math.log(4), 12);
    expect([...routing.expertOffsets.dataSync()]).toEqual([0, 5, 10, 10, 10]);
  });
});
