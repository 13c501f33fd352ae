import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { Initializer } from "../../lib/nn/initializer.js";

const device = openDevice("cpu");

describe("Initializer", () => {
  test("draws the distribution asked for", () => {
    const parameter = new Initializer({ device, seed: 3 }).normal([200, 200], { mean: 1, std: 0.02 });
    const values = [...parameter.value.dataSync()];
    const average = (numbers: number[]) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
    const mean = average(values);
    const variance = average(values.map((x) => (x - mean) ** 2));
    expect(mean).toBeCloseTo(1, 3);
    expect(Math.sqrt(variance)).toBeCloseTo(0.02, 3);
  });

  test("a purpose's stream does not depend on what others drew", () => {
    const [a, b] = [new Initializer({ device, seed: 5 }), new Initializer({ device, seed: 5 })];
    b.normal([7], { purpose: "hypernetwork" });
    expect(a.normal([8]).value.dataSync()).toEqual(b.normal([8]).value.dataSync());
    expect(a.normal([8]).value.dataSync()).not.toEqual(
      new Initializer({ device, seed: 6 }).normal([8]).value.dataSync(),
    );
  });
});
