import type { ProductDType } from "../../lib/dtype.js";

/**
 * How far a result may be from the expected one. A class, not a number: the limit follows from the class, the
 * rounding unit of the dtype and the size of the values.
 *
 * `exact`: the expected value rounded to the dtype. `elementwise`: a formula of a few roundings per element.
 * `reduction(k)`: sums of k terms. `doubleReduction(k)`: the same, accumulated in double whatever the dtype.
 * `{ norm }`: no limit for a single element, but ‖got - expected‖ <= norm · ‖expected‖.
 */
export type Tolerance =
  "exact" | "elementwise" | { terms: number; scale: number; accumulator?: "f64" } | { norm: number };

/** ‖error‖ / ‖result‖ of a computation whose products have operands of this precision, intermediate ones among them. */
export const precisionClass: Record<ProductDType, number> = { f32: 1e-5, tf32: 5e-4, bf16: 5e-3 };

/** @param scale Size of the terms, where they may cancel: results can be smaller than their rounding errors. */
export function reduction(terms: number, scale = 0): Tolerance {
  return { terms, scale };
}

export function doubleReduction(terms: number): Tolerance {
  return { terms, scale: 0, accumulator: "f64" };
}

/** Rounding unit of the float dtypes. */
export const roundingUnit = { f32: 2 ** -24, f64: 2 ** -53 };

/** One line about the first element that is off, or undefined. `undefined` in `expected` is not compared. */
export function firstMismatch(
  got: ArrayLike<number>,
  expected: ArrayLike<number | undefined>,
  dtype: "f32" | "f64",
  tolerance: Tolerance,
): string | undefined {
  if (got.length !== expected.length) return `has ${got.length} elements, expected ${expected.length}`;
  if (typeof tolerance === "object" && "norm" in tolerance)
    return normMismatch(got, expected, tolerance.norm);
  const limitAt = limits(expected, roundingUnit[dtype], tolerance);
  for (let i = 0; i < got.length; i++) {
    const want = expected[i];
    if (want === undefined) continue;
    const rounded = dtype === "f32" ? Math.fround(want) : want;
    const value = got[i]!;
    if (Object.is(value, rounded) || value === rounded) continue;
    const limit = limitAt(want);
    if (!(Math.abs(value - want) <= limit)) {
      return `element ${i} is ${value}, expected ${want} within ${limit.toExponential(1)}`;
    }
  }
  return undefined;
}

function normMismatch(
  got: ArrayLike<number>,
  expected: ArrayLike<number | undefined>,
  limit: number,
): string | undefined {
  let [squares, norm] = [0, 0];
  for (let i = 0; i < got.length; i++) {
    const want = expected[i];
    if (want === undefined) continue;
    squares += (got[i]! - want) ** 2;
    norm += want ** 2;
  }
  const error = Math.sqrt(squares);
  const allowed = limit * Math.sqrt(norm);
  return error <= allowed ? undefined : `is off by ${error} in norm, allowed are ${allowed}`;
}

/** The allowed error for a value: relative to itself, with a floor from the size of all values. */
function limits(
  expected: ArrayLike<number | undefined>,
  unit: number,
  tolerance: Exclude<Tolerance, { norm: number }>,
): (value: number) => number {
  if (tolerance === "exact") return () => 0;
  let squares = 0;
  let count = 0;
  for (let i = 0; i < expected.length; i++) {
    const value = expected[i];
    if (value === undefined || !Number.isFinite(value)) continue;
    squares += value * value;
    count += 1;
  }
  const rms = Math.sqrt(squares / Math.max(count, 1));
  const elementwise = (value: number): number => 16 * unit * (Math.abs(value) + 0.25 * rms);
  if (tolerance === "elementwise") return elementwise;
  const { scale } = tolerance;
  const growth = 8 * Math.sqrt(tolerance.terms + 4) * (tolerance.accumulator ? roundingUnit.f64 : unit);
  const summed = (value: number): number => growth * (Math.abs(value) + Math.max(rms, scale));
  return tolerance.accumulator ? (value) => elementwise(value) + summed(value) : summed;
}
