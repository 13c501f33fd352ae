import { afterAll, beforeEach, describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { ConfigError } from "../../lib/errors.js";
import { Parameter } from "../../lib/nn/parameter.js";
import { Adagrad, Adam, AdamW, type Optimizer, Sgd } from "../../lib/optim/optimizer.js";
import { tensor } from "../../lib/tensor.js";

const device = openDevice("reference");
const values = [0.5, -1, 2, 0.25, -3];
const gradients = [
  [1, -2, 0.5, 0, 4],
  [-0.5, 1, 3, 2, -1],
  [0.25, 0.25, -1, 1, 0],
];
let optimizers: Optimizer[] = [];

function make<T extends Optimizer>(optimizer: T): T {
  optimizers.push(optimizer);
  return optimizer;
}

const parameter = (): Parameter => new Parameter(tensor(values, [5], device));

/** Runs the updates of `gradients`, each with rate 0.1. @returns the values after each. */
function updates(optimizer: Optimizer, of: Parameter): number[][] {
  return gradients.map((gradient) => {
    of.gradient().set(Float64Array.from(gradient));
    optimizer.update(0.1);
    return [...of.value.dataSync()];
  });
}

beforeEach(() => {
  for (const optimizer of optimizers) optimizer.dispose();
  optimizers = [];
});
afterAll(() => {
  for (const optimizer of optimizers) optimizer.dispose();
});

describe("formulas, element by element", () => {
  const by = (update: (theta: number, g: number, state: number[], t: number) => number): number[][] => {
    const states = values.map((): number[] => [0, 0]);
    let theta = [...values];
    return gradients.map((gradient, step) => {
      theta = theta.map((value, i) => update(value, gradient[i] ?? NaN, states[i] ?? [], step + 1));
      return theta;
    });
  };
  const close = (got: number[][], expected: number[][]): void => {
    got.forEach((row, step) => {
      row.forEach((value, i) => {
        expect(value).toBeCloseTo(expected[step]?.[i] ?? NaN, 12);
      });
    });
  };
  const adamStep = (g: number, state: number[], t: number): number => {
    const [m = 0, v = 0] = state;
    state[0] = 0.9 * m + 0.1 * g;
    state[1] = 0.999 * v + 0.001 * g * g;
    return (0.1 / (1 - 0.9 ** t)) * (state[0] / (Math.sqrt(state[1]) / Math.sqrt(1 - 0.999 ** t) + 1e-8));
  };

  test("Adam, with weight decay in the gradient", () => {
    const p = parameter();
    const expected = by((theta, g, state, t) => theta - adamStep(g + 0.2 * theta, state, t));
    close(updates(make(new Adam([p], { weightDecay: 0.2 })), p), expected);
  });

  test("AdamW, with weight decay beside it; 0.01 by default", () => {
    const p = parameter();
    const expected = by((theta, g, state, t) => theta - 0.1 * 0.01 * theta - adamStep(g, state, t));
    close(updates(make(new AdamW([p])), p), expected);
  });

  test("SGD with momentum, and Nesterov's", () => {
    for (const nesterov of [false, true]) {
      const p = parameter();
      const expected = by((theta, g, state) => {
        state[0] = 0.8 * (state[0] ?? 0) + g;
        return theta - 0.1 * (nesterov ? g + 0.8 * state[0] : state[0]);
      });
      close(updates(make(new Sgd([p], { momentum: 0.8, nesterov })), p), expected);
    }
  });

  test("Adagrad", () => {
    const p = parameter();
    const expected = by((theta, g, state) => {
      state[0] = (state[0] ?? 0) + g * g;
      return theta - (0.1 * g) / (Math.sqrt(state[0]) + 1e-10);
    });
    close(updates(make(new Adagrad([p])), p), expected);
  });
});

describe("parameters", () => {
  test("in groups have rates and decays of their own", () => {
    const [plain, slow] = [parameter(), parameter()];
    const groups = [{ parameters: [plain] }, { parameters: [slow], lrScale: 0.5, weightDecay: 0 }];
    const optimizer = make(new Sgd(groups, { weightDecay: 1 }));
    for (const p of [plain, slow]) p.gradient().set(Float64Array.from([1, 1, 1, 1, 1]));
    optimizer.update(0.1);
    plain.value.dataSync().forEach((value, i) => {
      expect(value).toBeCloseTo((values[i] ?? NaN) - 0.1 * (1 + (values[i] ?? NaN)), 12);
    });
    slow.value.dataSync().forEach((value, i) => {
      expect(value).toBeCloseTo((values[i] ?? NaN) - 0.05, 12);
    });
  });

  test("that are frozen in between keep value and state, and others around them train", () => {
    const [first, middle, last] = [parameter(), parameter(), parameter()];
    const optimizer = make(new Adam([first, middle, last]));
    updates(optimizer, middle);
    const before = [...middle.value.dataSync()];
    middle.trainable = false;
    for (const p of [first, last]) p.gradient().set(Float64Array.from([1, 1, 1, 1, 1]));
    optimizer.update(0.1);
    expect([...middle.value.dataSync()]).toEqual(before);
    expect([...first.value.dataSync()]).not.toEqual(values);
    expect([...first.value.dataSync()]).toEqual([...last.value.dataSync()]);
  });

  test("that no longer belong to an optimiser are not updated in vain", () => {
    const p = parameter();
    const old = make(new Sgd([p]));
    const current = make(new Sgd([p]));
    expect(() => {
      old.update(0.1);
    }).toThrow(/another optimiser has taken over[^]*fix:/);
    p.gradient().set(Float64Array.from([1, 1, 1, 1, 1]));
    current.update(0.1);
    expect(p.value.dataSync()[0]).toBeCloseTo(0.4, 12);
  });

  test("must be there, and only once", () => {
    const p = parameter();
    const frozen = parameter();
    frozen.trainable = false;
    expect(() => new Adam([])).toThrow(/no parameters to train/);
    expect(() => new Adam([frozen])).toThrow(/no parameters to train/);
    expect(() => new Adam([p, p])).toThrow(/listed twice/);
  });
});

describe("clipping", () => {
  test("scales by the norm over all parameters, and not below it", () => {
    const [a, b] = [parameter(), parameter()];
    const optimizer = make(new Sgd([a, b]));
    const set = (): void => {
      a.gradient().set(Float64Array.from([3, 0, 0, 0, 0]));
      b.gradient().set(Float64Array.from([0, 4, 0, 0, 0]));
    };
    set();
    let clip = optimizer.clip(1);
    expect(clip.norm.dataSync()[0]).toBeCloseTo(5, 12);
    optimizer.update(1, clip);
    expect(a.value.dataSync()[0]).toBeCloseTo(0.5 - 3 / (5 + 1e-6), 12);
    set();
    clip = optimizer.clip(0);
    expect(clip.factor.dataSync()[0]).toBe(1);
  });
});

test.each([
  [() => new Adam([parameter()], { beta1: 1 }), /"beta1" is 1[^]*0 <= beta1 < 1/],
  [() => new Adam([parameter()], { lr: 1 } as object), /unknown option "lr"/],
  [() => new Sgd([parameter()], { momentum: -1 }), /"momentum" is -1/],
  [() => new Adagrad([parameter()], { eps: NaN }), /"eps" is NaN/],
])("wrong options are refused (%#)", (create, message) => {
  expect(create).toThrow(ConfigError);
  expect(create).toThrow(message);
});
