import { record } from "../autograd/tape.js";
import { ShapeError } from "../errors.js";
import { native } from "../native.js";
import { empty, type FloatTensor, Tensor } from "../tensor.js";
import { reduceRowsInto } from "./reduce.js";
import { expectRank, rowsOf, sectionsOf, stackedShape } from "./view.js";

/**
 * Matrix product `op(a) · op(b)`.
 *
 * @param a `[m, k]`, or `[k, m]` with `transposeA`. Float.
 * @param b `[k, n]`, or `[n, k]` with `transposeB`. Float.
 * @returns `[m, n]`. Each element is summed over k in one fixed order.
 * @throws {ShapeError} when the inner sizes differ or a tensor is not a matrix.
 */
export function matmul(
  a: FloatTensor,
  b: FloatTensor,
  options: { transposeA?: boolean; transposeB?: boolean } = {},
): FloatTensor<[number, number]> {
  const { transposeA = false, transposeB = false } = options;
  expectRank("matmul", "a", a, 2);
  expectRank("matmul", "b", b, 2);
  const m = a.shape[transposeA ? 1 : 0] ?? 0;
  const n = b.shape[transposeB ? 0 : 1] ?? 0;
  const out = empty(a.device.float, [m, n] as [number, number], a.device);
  product(a, transposeA, b, transposeB, out, false);
  record([a, b], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    if (gradients.wants(a)) {
      const { buffer, accumulate } = gradients.target(a);
      // d_op(a) = d_out · op(b)ᵀ; transposed when a is.
      if (transposeA) product(b, transposeB, dOut, true, buffer, accumulate);
      else product(dOut, false, b, !transposeB, buffer, accumulate);
    }
    if (gradients.wants(b)) {
      const { buffer, accumulate } = gradients.target(b);
      if (transposeB) product(dOut, true, a, transposeA, buffer, accumulate);
      else product(a, !transposeA, dOut, false, buffer, accumulate);
    }
  });
  return out;
}

/**
 * `y = act(x · Wᵀ + b)` over the last axis.
 *
 * @param x `[..., in]`, float; or several such tensors, whose results are stacked along the first axis. Gradients are
 *   computed only for those that want them.
 * @param weight `[out, in]`.
 * @param bias `[out]`, or null.
 * @param activation Fused into the product; other activations are ops of their own.
 * @returns `[..., out]`.
 * @throws {ShapeError} when sizes do not fit, or a part of several has no axis to stack along.
 */
export function linear(
  x: FloatTensor | readonly FloatTensor[],
  weight: FloatTensor,
  bias: FloatTensor | null = null,
  activation: "none" | "relu" = "none",
): FloatTensor {
  expectRank("linear", "weight", weight, 2);
  const parts = x instanceof Tensor ? [x] : x;
  const width = weight.shape[0] ?? 0;
  if (parts.length > 1 && parts[0]?.shape.length === 1) {
    throw new ShapeError("linear", "x", "parts have shape [in]", "give each part a first axis: [1, in]");
  }
  const y = empty(weight.device.float, [...stackedShape("linear", parts).slice(0, -1), width], weight.device);
  const sections = sectionsOf(parts, (part) => (part.size / (part.shape.at(-1) ?? 1)) * width);
  for (const { part, offset, size } of sections) {
    const out = y.view([size / width, width], offset);
    native().ops.gemm(
      rowsOf(part).handle,
      weight.handle,
      bias?.handle ?? null,
      out.handle,
      false,
      true,
      activation,
      false,
    );
  }
  record([...parts, weight, bias], [y], (gradients) => {
    const dY = gradients.of(y);
    if (!dY) return;
    let dZ: FloatTensor = rowsOf(dY);
    if (activation === "relu") {
      const masked = empty(dZ.device.float, dZ.shape, dZ.device);
      // relu'(z) = 1 exactly where y > 0, so y stands for z.
      native().ops.activationBackward(dZ.handle, rowsOf(y).handle, masked.handle, "relu");
      dZ = masked;
    }
    for (const { part, offset, size } of sections) {
      const dPart = dZ.view([size / width, width], offset);
      if (gradients.wants(part)) {
        const { buffer, accumulate } = gradients.target(part);
        product(dPart, false, weight, false, rowsOf(buffer), accumulate);
      }
      if (gradients.wants(weight)) {
        const { buffer, accumulate } = gradients.target(weight);
        product(dPart, true, rowsOf(part), false, buffer, accumulate);
      }
    }
    if (gradients.wants(bias)) reduceRowsInto(dZ, gradients.target(bias));
  });
  return y;
}

function product(
  a: FloatTensor,
  transposeA: boolean,
  b: FloatTensor,
  transposeB: boolean,
  out: FloatTensor,
  accumulate: boolean,
): void {
  native().ops.gemm(a.handle, b.handle, null, out.handle, transposeA, transposeB, "none", accumulate);
}
