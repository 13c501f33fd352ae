import { describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import { openDevice } from "../../lib/device.js";
import { ConfigError } from "../../lib/errors.js";
import { HyperRouters } from "../../lib/moe/hyper-routers.js";
import { Routers, type RoutersOptions } from "../../lib/moe/routers.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { sum } from "../../lib/ops/reduce.js";
import { route } from "../../lib/moe/router.js";
import { add, mul } from "../../lib/ops/elementwise.js";
import { tensor } from "../../lib/tensor.js";

const device = openDevice("reference");
const sizes = { numLayers: 3, numExperts: 4, dModel: 5, hyperSize: 6 };

function build(changes: Partial<RoutersOptions> = {}): Routers {
  return new Routers({ ...sizes, ...changes }, new Initializer({ device, std: 0.5 }));
}

describe("Routers", () => {
  test("k is checked wherever it is set", () => {
    const routers = build({ topK: 4 });
    expect(routers.topK).toBe(4);
    expect(() => build({ topK: 5 })).toThrow(ConfigError);
    expect(() => (routers.topK = 1.5)).toThrow("use an integer from 1 to 4");
    expect(build({ numExperts: 1 }).topK).toBe(1);
  });

  test("every layer has its own router, learned or generated", () => {
    for (const gate of ["hyper-router", "smoe"] as const) {
      const weights = build({ gate })
        .forward()
        .map(({ weight }) => [...weight.dataSync()]);
      expect(weights.map((weight) => weight.length)).toEqual([20, 20, 20]);
      expect(weights[0]).not.toEqual(weights[1]);
    }
  });

  test("gradients of the layers reach the stacked parameters", () => {
    for (const gate of ["hyper-router", "smoe"] as const) {
      const routers = build({ gate });
      backward(() => {
        const [first, , last] = routers.forward();
        return add(sum(first!.weight), sum(mul(last!.bias, last!.bias)));
      });
      const parameter = routers.parameters()[0]!;
      const gradient = parameter.gradient().dataSync();
      const layer = (i: number) => [
        ...gradient.subarray((i * parameter.size) / 3, ((i + 1) * parameter.size) / 3),
      ];
      expect(layer(0).some((value) => value !== 0)).toBe(true);
      expect(layer(1).every((value) => value === 0)).toBe(true);
    }
  });

  test("uniform weighting with k = E is the plain average", () => {
    const routers = build({ gate: "hyper-router-uniform", topK: 4 });
    const x = new Initializer({ device, std: 1 }).normal([7, 5]).value;
    const { expertWeights } = route(x, routers.forward()[1]!);
    expect(new Set(expertWeights.dataSync())).toEqual(new Set([0.25]));
    routers.weighting = "softmax_kept";
    expect(new Set(route(x, routers.forward()[1]!).expertWeights.dataSync()).size).toBeGreaterThan(4);
  });
});

/** The hypernetwork behind some routers. */
function generated({ source }: Routers): HyperRouters {
  if (source instanceof HyperRouters) return source;
  throw new TypeError("these routers are not generated");
}

describe("HyperRouters", () => {
  test("the worked example: d = 2, h = 2, E = 3, k = 2", () => {
    const routers = new Routers(
      { numLayers: 1, numExperts: 3, dModel: 2, hyperSize: 2, topK: 2 },
      new Initializer({ device }),
    );
    const source = generated(routers);
    source.embeddings.set([1, -2]);
    source.w1.set([1, 0, 0, 1]);
    source.w2.set([1, 0, 0.5, 0, 1, -0.5, -1, 1, 0.25].flatMap((first) => [first, 7]));
    const [router] = routers.forward();
    expect([...router!.weight.dataSync()]).toEqual([1, 0, 0, 1, -1, 1]);
    expect([...router!.bias.dataSync()]).toEqual([0.5, -0.5, 0.25]);
    const { routing } = backward(() => {
      const routing = route(tensor([2, 1], [1, 2], device), routers.forward()[0]!);
      return { loss: sum(mul(routing.expertWeights, tensor([1, 0], [1, 2], device))), routing };
    });
    expect([...routing.logits.dataSync()]).toEqual([2.5, 0.5, -0.75]);
    expect([...routing.expertIndices.dataSync()]).toEqual([0, 1]);
    expect(routing.expertWeights.dataSync()[0]).toBeCloseTo(0.880797, 6);
    const gradient = source.embeddings.gradient().dataSync();
    expect(gradient[0]).toBeCloseTo(0.209987, 6);
    expect(gradient[1]).toBe(0);
  });

  test("outside of training the routers are generated once, until a parameter changes", () => {
    const source = generated(build());
    const first = source.forward();
    expect(source.forward()).toBe(first);
    source.embeddings.set(source.embeddings.value.dataSync().map((value) => value + 1));
    const second = source.forward();
    expect(second).not.toBe(first);
    expect(first.weight.isDisposed).toBe(true);
    expect([...source.forward().weight.dataSync()]).toEqual([...second.weight.dataSync()]);
    source.dispose();
    expect(second.weight.isDisposed).toBe(true);
  });

  test("while training they are generated anew, unless nothing about them trains", () => {
    const source = generated(build());
    const cached = source.forward();
    const forward = () => {
      const generated = source.forward();
      return { loss: sum(generated.weight), same: generated === cached };
    };
    expect(backward(forward).same).toBe(false);
    source.freeze();
    expect(backward(forward).same).toBe(true);
  });

  test("one hypernetwork for all layers still gives each its router", () => {
    const shared = generated(build({ hypernetScope: "shared", embedDim: 2 }));
    expect(shared.w1.shape).toEqual([1, 6, 2]);
    const weights = shared.forward().weight.dataSync();
    expect(weights.subarray(0, 20)).not.toEqual(weights.subarray(20, 40));
    shared.embeddings.set([1, 2, 1, 2, 3, 4]);
    const again = shared.forward().weight.dataSync();
    expect(again.subarray(0, 20)).toEqual(again.subarray(20, 40));
  });
});
