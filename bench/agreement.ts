import { toFloat64 } from "../lib/checkpoint/safetensors.js";
import type { HostTensors } from "./workload.js";

/** Largest difference that rounding to float32 explains, relative to the norm of a tensor. */
const float32Tolerance = 1e-4;

/** Something computes, but not what it should. */
export class DisagreementError extends Error {}

/** @throws {DisagreementError} naming each tensor of `expected` that `actual` lacks or has with other values. */
export function checkAgreement(
  what: string,
  actual: HostTensors,
  expected: HostTensors,
  tolerance = float32Tolerance,
): void {
  if (expected.size === 0) throw new Error(`${what} gave nothing to compare`);
  const problems = [...expected.keys()].flatMap((name) => {
    const difference = relativeDifference(actual, expected, name);
    return difference <= tolerance ? [] : [`${name} differs by ${difference.toExponential(1)}`];
  });
  if (problems.length > 0)
    throw new DisagreementError(`${what} computes something else: ${problems.join(", ")}`);
}

/** ‖actual - expected‖ / ‖expected‖; infinite for tensors of different shapes, NaN where a value is. */
function relativeDifference(actual: HostTensors, expected: HostTensors, name: string): number {
  const [a, b] = [actual.get(name), expected.get(name)];
  if (a === undefined || b === undefined || a.shape.join() !== b.shape.join()) return Infinity;
  const [x, y] = [toFloat64(a), toFloat64(b)];
  let [squares, norm] = [0, 0];
  for (let i = 0; i < y.length; i += 1) {
    squares += (x[i]! - y[i]!) ** 2;
    norm += y[i]! ** 2;
  }
  return squares === 0 ? 0 : Math.sqrt(squares / norm);
}
