import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { ConfigError } from "../../lib/errors.js";
import { Dropout } from "../../lib/nn/dropout.js";
import { RandomStream } from "../../lib/random.js";
import { tensor } from "../../lib/tensor.js";

const ones = tensor(Array<number>(1000).fill(1), [1000], openDevice("cpu"));

describe("Dropout", () => {
  test("drops while training, differently each time, the same for the same stream", () => {
    const draw = (dropout: Dropout) => dropout.forward(ones).dataSync();
    const dropout = new Dropout(0.25, new RandomStream(1, "dropout"));
    const [first, second] = [draw(dropout), draw(dropout)];
    expect(first).not.toEqual(second);
    expect(draw(new Dropout(0.25, new RandomStream(1, "dropout")))).toEqual(first);
    expect(draw(new Dropout(0.25, new RandomStream(1, "dropout", 1)))).toEqual(second);
    expect(new Set(first)).toEqual(new Set([0, Math.fround(1 / 0.75)]));
  });

  test("does nothing, and draws nothing, in evaluation or at probability 0", () => {
    const stream = new RandomStream(1, "dropout");
    expect(new Dropout(0.25, stream).eval().forward(ones)).toBe(ones);
    expect(new Dropout(0, stream).forward(ones)).toBe(ones);
    expect(stream.calls).toBe(0);
  });

  test.each([-0.1, 1, NaN])("refuses probability %d", (probability) => {
    expect(() => new Dropout(probability, new RandomStream(1, "dropout"))).toThrow(ConfigError);
  });
});
