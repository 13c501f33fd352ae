import { record } from "../autograd/tape.js";
import { ValueError } from "../errors.js";
import { native } from "../native.js";
import { empty, type FloatTensor, type IndexTensor, type Tensor } from "../tensor.js";

/** Sum of all elements times `scale`, in a fixed order. @returns `[1]`. */
export function sum(x: FloatTensor, scale = 1): FloatTensor<[1]> {
  const out = empty(x.device.float, [1] as [1], x.device);
  native().ops.reduceSum(x.handle, out.handle, scale);
  record([x], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut || !gradients.wants(x)) return;
    const { ops } = native();
    const accumulator = gradients.accumulator(x);
    const dX = empty(x.device.float, x.shape, x.device);
    ops.fill(dX.handle, scale);
    ops.binary(dX.handle, dOut.handle, dX.handle, "mul");
    ops.axpby(dX.handle, accumulator.handle, 1, 1);
  });
  return out;
}

/** Mean of all elements. @returns `[1]`. */
export function mean(x: FloatTensor): FloatTensor<[1]> {
  return sum(x, 1 / x.size);
}

/** Adds the rows of `x` `[rows, n]` into, or writes their sum to, a gradient target `[n]`. */
export function reduceRowsInto(x: FloatTensor, target: { buffer: FloatTensor; accumulate: boolean }): void {
  native().ops.reduceRows(x.handle, target.buffer.handle, target.accumulate);
}

/**
 * The factor that clips a global gradient norm.
 *
 * @param gradients Flat buffers whose joint L2 norm counts.
 * @param maxNorm 0 for no clipping.
 * @returns `norm` and `factor = min(1, maxNorm / (norm + 1e-6))`, each `[1]`, on the device.
 */
export function clipFactor(
  gradients: readonly FloatTensor[],
  maxNorm: number,
): { norm: FloatTensor<[1]>; factor: FloatTensor<[1]> } {
  const [first] = gradients;
  if (!first)
    throw new ValueError("clipFactor", "gradients", "there are no gradients", "pass at least one buffer");
  const { device } = first;
  const squares = empty(device.float, [1], device);
  const norm = empty(device.float, [1] as [1], device);
  const factor = empty(device.float, [1] as [1], device);
  gradients.forEach((gradient, i) => {
    native().ops.sumSquares(gradient.handle, squares.handle, i > 0);
  });
  native().ops.clipFactor(squares.handle, norm.handle, factor.handle, maxNorm);
  squares.dispose();
  return { norm, factor };
}

/** How many elements are NaN or infinite. @returns `[1]` i32. */
export function countNonFinite(x: Tensor): IndexTensor<[1]> {
  const out = empty("i32", [1] as [1], x.device);
  native().ops.countNonFinite(x.handle, out.handle);
  return out;
}
