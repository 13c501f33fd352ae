import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { LayerNorm } from "../../lib/nn/layer-norm.js";
import { Linear } from "../../lib/nn/linear.js";
import { Module } from "../../lib/nn/module.js";
import type { Parameter } from "../../lib/nn/parameter.js";

const init = new Initializer({ device: openDevice("reference") });

class Stack extends Module {
  readonly first = new Linear({ dIn: 2, dOut: 3 }, init);
  readonly rest = [new Linear({ dIn: 3, dOut: 3, bias: false }, init), new LayerNorm({ d: 3 }, init)];
  readonly tied: Parameter = this.first.weight;
  readonly size = 3;
}

describe("Module", () => {
  test("names parameters by path, shared ones once, in the order of the fields", () => {
    const names = [...new Stack().namedParameters()].map(([name]) => name);
    expect(names).toEqual(["first.weight", "first.bias", "rest.0.weight", "rest.1.weight", "rest.1.bias"]);
  });

  test("train and eval reach every module", () => {
    const stack = new Stack().eval();
    expect([...stack.namedModules()].map(([name, module]) => [name, module.training])).toEqual([
      ["", false],
      ["first", false],
      ["rest.0", false],
      ["rest.1", false],
    ]);
    expect(stack.train().rest[1]?.training).toBe(true);
  });

  test("freeze takes parameters out of the trainable count", () => {
    const stack = new Stack();
    expect(stack.countParameters()).toBe(6 + 3 + 9 + 3 + 3);
    stack.first.freeze();
    expect(stack.countParameters("trainable")).toBe(9 + 3 + 3);
    stack.freeze(false);
    expect(stack.countParameters("trainable")).toBe(stack.countParameters());
  });

  test("dispose frees parameters", () => {
    const stack = new Stack();
    const weight = stack.first.weight.value;
    stack.dispose();
    expect(weight.isDisposed).toBe(true);
  });
});
