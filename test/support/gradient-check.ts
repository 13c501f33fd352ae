import { expect } from "@jest/globals";
import type { Device } from "../../lib/device.js";
import { gradientPairs } from "./finite-differences.js";
import type { GradientCase } from "./op-case.js";
import { reference } from "./op-harness.js";

/** Largest difference, relative to the gradient or 1: that of the formula in float64, of rounding in float32. */
const limits = { f64: 1e-8, f32: 1e-5 };

/** Expects backward on the device to agree with finite differences, and to be zero exactly where it must be. */
export function checkGradients(gradientCase: GradientCase, device: Device): void {
  for (const { input, backward, differences } of gradientPairs(gradientCase, device, reference())) {
    const zero = gradientCase.zero?.includes(input) === true;
    if (zero) expect({ input, backward }).toEqual({ input, backward: backward.map(() => 0) });
    else expect({ input, isZero: backward.every((d) => d === 0) }).toEqual({ input, isZero: false });
    const limit = limits[device.float] * Math.max(1, ...differences.map(Math.abs));
    const errors = backward.map((d, i) => Math.abs(d - differences[i]!));
    const worst = errors.findIndex((error) => !(error <= limit));
    if (worst >= 0) expect({ input, worst, backward }).toEqual({ input, worst, backward: differences });
  }
}
