import { describe, expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { ShapeError } from "../../lib/errors.js";
import { Parameter } from "../../lib/nn/parameter.js";
import { scope } from "../../lib/scope.js";
import { tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("reference");

describe("Parameter", () => {
  test("outlives its scope; the gradient starts as zeros", () => {
    let parameter: Parameter | undefined;
    scope(() => {
      parameter = new Parameter(tensor([1, 2], [2], device));
      parameter.gradient();
    });
    expect([...parameter!.value.dataSync()]).toEqual([1, 2]);
    expect([...parameter!.gradient().dataSync()]).toEqual([0, 0]);
  });

  test("set counts versions and checks the number of elements", () => {
    const parameter = new Parameter(zeros([2], device));
    parameter.set([3, 4]);
    expect([...parameter.value.dataSync()]).toEqual([3, 4]);
    expect(parameter.version).toBe(1);
    expect(() => parameter.set([1])).toThrow(ShapeError);
  });

  test("moveTo keeps value and gradient, and frees the old memory", () => {
    const parameter = new Parameter(tensor([1, 2], [2], device));
    parameter.gradient().set(Float64Array.of(5, 6));
    const [old, arena, gradients] = [parameter.value, zeros([4], device), zeros([4], device)];
    parameter.moveTo(arena.view([2], 1), gradients.view([2], 1));
    expect(old.isDisposed).toBe(true);
    expect([...arena.dataSync()]).toEqual([0, 1, 2, 0]);
    expect([...gradients.dataSync()]).toEqual([0, 5, 6, 0]);
    expect(parameter.value.leaf).toBe(parameter);
  });
});
