import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { Positions } from "../../lib/nn/positions.js";

const device = openDevice("reference");

describe("Positions", () => {
  test("farthest distance first, sines then cosines", () => {
    const rows = new Positions({ dModel: 4 }, device).forward(3).dataSync();
    const row = (p: number) => [Math.sin(p), Math.sin(p / 100), Math.cos(p), Math.cos(p / 100)];
    const expected = [...row(2), ...row(1), ...row(0)];
    expected.forEach((value, i) => expect(rows[i]).toBeCloseTo(value, 14));
  });

  test("shorter and longer contexts give the same rows", () => {
    const positions = new Positions({ dModel: 6 }, device);
    const five = positions.forward(5).dataSync();
    const nine = positions.forward(9).dataSync();
    expect([...positions.forward(5).dataSync()]).toEqual([...five]);
    expect([...nine.subarray(4 * 6)]).toEqual([...five]);
    positions.dispose();
    expect([...positions.forward(5).dataSync()]).toEqual([...five]);
  });

  test("distances beyond clampLen count as clampLen", () => {
    const clamped = new Positions({ dModel: 2, clampLen: 2 }, device).forward(5).dataSync();
    const distances = [2, 2, 2, 1, 0];
    expect([...clamped]).toEqual(distances.flatMap((p) => [Math.sin(p), Math.cos(p)]));
  });
});
