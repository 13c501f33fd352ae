import { join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import { type SafetensorsSource, writeSafetensors } from "../../lib/checkpoint/safetensors.js";
import { loadWeights } from "../../lib/checkpoint/weights.js";
import { CheckpointError } from "../../lib/errors.js";
import { Linear } from "../../lib/nn/linear.js";
import { Module } from "../../lib/nn/module.js";
import { newFolder } from "../support/tiny-run.js";

/** Two layers, as a user would write them. */
class Classifier extends Module {
  readonly body = new Linear({ dIn: 2, dOut: 3 });
  readonly head = new Linear({ dIn: 3, dOut: 2 });
}

const folder = await newFolder();
const path = join(folder, "weights.safetensors");
const f32 = (shape: number[], value: number): SafetensorsSource => {
  const size = shape.reduce((product, extent) => product * extent, 1);
  return { dtype: "F32", shape, data: new Float32Array(size).fill(value) };
};
await writeSafetensors(
  path,
  new Map([
    ["body.weight", f32([3, 2], 1)],
    ["body.bias", f32([3], 2)],
    ["head.weight", f32([7, 3], 3)],
    ["decoder.weight", f32([4], 4)],
    ["optimizer/m/body.weight", f32([3, 2], 5)],
  ]),
);

describe("loading weights", () => {
  test("in part reports what was loaded and what was not", async () => {
    const model = new Classifier();
    const head = await model.head.weight.value.data();
    expect(await loadWeights(model, path, { partial: true })).toEqual({
      loaded: ["body.weight", "body.bias"],
      missing: ["head.bias"],
      unexpected: ["decoder.weight"],
      mismatched: [{ name: "head.weight", expected: [2, 3], found: [7, 3] }],
    });
    expect([...(await model.body.weight.value.data())]).toEqual([1, 1, 1, 1, 1, 1]);
    expect([...(await model.body.bias!.value.data())]).toEqual([2, 2, 2]);
    expect(await model.head.weight.value.data()).toEqual(head);
    model.dispose();
  });

  test("as a whole names all that does not fit, and changes nothing", async () => {
    const model = new Classifier();
    const before = await model.body.weight.value.data();
    const error = await loadWeights(model, path).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).reason).toBe(
      `${path}: lacks "head.bias"; has "decoder.weight", which the model has not; ` +
        `"head.weight" has shape [7, 3], expected [2, 3]`,
    );
    expect(await model.body.weight.value.data()).toEqual(before);
    model.dispose();
  });

  test("loads all of a file that fits, and long lists are cut", async () => {
    const model = new Linear({ dIn: 2, dOut: 1 });
    const one = join(folder, "one.safetensors");
    await writeSafetensors(one, new Map([["weight", f32([1, 2], 1)]]));
    expect((await loadWeights(model, one, { partial: true })).loaded).toEqual(["weight"]);
    const names = Array.from({ length: 40 }, (_, i) => `extra${String(i)}`);
    await writeSafetensors(one, new Map(names.map((name) => [name, f32([1], 0)])));
    await expect(loadWeights(model, one)).rejects.toThrow(/"extra\d+" and 28 more, which the model has not/);
    model.dispose();
  });
});
