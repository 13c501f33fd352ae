import { describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import type { RouterSizes, RouterWeights } from "../../lib/moe/hyper-routers.js";
import { Routers } from "../../lib/moe/routers.js";
import type { Initializer } from "../../lib/nn/initializer.js";
import { Module } from "../../lib/nn/module.js";
import type { Parameter } from "../../lib/nn/parameter.js";
import { TransformerXL } from "../../lib/nn/transformer-xl.js";
import { scale } from "../../lib/ops/elementwise.js";
import { scope } from "../../lib/scope.js";
import { indices } from "../../lib/tensor.js";

/** Twice a parameter: the least that a module can do to make routers. */
class DoubledRouters extends Module {
  readonly half: Parameter;
  readonly bias: Parameter;

  constructor({ numLayers, numExperts, dModel }: RouterSizes, init: Initializer) {
    super();
    this.half = init.normal([numLayers, numExperts, dModel]);
    this.bias = init.zeros([numLayers, numExperts]);
  }

  forward(): RouterWeights {
    return { weight: scale(this.half.value, 2), bias: this.bias.value };
  }
}

const sizes = { numLayers: 2, numExperts: 4, dModel: 8 };
const routerSource = (given: RouterSizes, init: Initializer): DoubledRouters => {
  expect(given).toEqual(sizes);
  return new DoubledRouters(given, init);
};

describe("routers of one's own", () => {
  test("train with the model around them", async () => {
    const model = new TransformerXL({
      ...{ vocabSize: 16, numLayers: 2, dModel: 8, numHeads: 2, dInner: 8 },
      moe: { numExperts: 4, topK: 2, gate: "smoe", routerSource },
    });
    const names = [...model.namedParameters()].map(([name]) => name);
    expect(names.filter((name) => name.startsWith("routers."))).toEqual([
      "routers.source.half",
      "routers.source.bias",
    ]);
    scope(() => backward(() => model.loss(indices([1, 2, 3, 4], [4, 1]), indices([2, 3, 4, 5], [4, 1]))));
    const gradient = await new Map(model.namedParameters()).get("routers.source.half")?.gradient().data();
    expect(gradient?.some((value) => value !== 0)).toBe(true);
    model.dispose();
  });

  test("are frozen where the gate says so", () => {
    const routers = new Routers({ ...sizes, gate: "smoe-dropout", routerSource });
    expect(routers.countParameters("trainable")).toBe(0);
    routers.dispose();
  });
});
