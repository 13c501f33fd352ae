import { record } from "../autograd/tape.js";
import type { DType } from "../dtype.js";
import { native } from "../native.js";
import type { BinaryKind } from "../native-ops.gen.js";
import { empty, emptyLike, type FloatTensor, type Shape, type Tensor } from "../tensor.js";
import { reduceRowsInto } from "./reduce.js";

/** `a + b`. b has the shape of a, or a suffix of it that repeats over the front (`[1]` is a scalar). */
export function add<S extends Shape>(a: FloatTensor<S>, b: FloatTensor): FloatTensor<S> {
  return binary(a, b, "add");
}

/** `a - b`; shapes as in {@link add}. */
export function sub<S extends Shape>(a: FloatTensor<S>, b: FloatTensor): FloatTensor<S> {
  return binary(a, b, "sub");
}

/** `a · b`, elementwise; shapes as in {@link add}. */
export function mul<S extends Shape>(a: FloatTensor<S>, b: FloatTensor): FloatTensor<S> {
  return binary(a, b, "mul");
}

/** `a / b`, elementwise; shapes as in {@link add}. */
export function div<S extends Shape>(a: FloatTensor<S>, b: FloatTensor): FloatTensor<S> {
  return binary(a, b, "div");
}

function binary<S extends Shape>(a: FloatTensor<S>, b: FloatTensor, kind: BinaryKind): FloatTensor<S> {
  const { ops } = native();
  const out = emptyLike(a);
  ops.binary(a.handle, b.handle, out.handle, kind);
  record([a, b], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    const product = (x: FloatTensor, y: FloatTensor, how: BinaryKind): FloatTensor => {
      const result = emptyLike(x);
      ops.binary(x.handle, y.handle, result.handle, how);
      return result;
    };
    if (gradients.wants(a)) {
      gradients.add(a, kind === "add" || kind === "sub" ? dOut : product(dOut, b, kind));
    }
    if (gradients.wants(b)) {
      // add: 1, sub: -1, mul: a, div: -a/b² = -out/b
      let dB = dOut;
      if (kind === "mul") dB = product(dOut, a, "mul");
      if (kind === "div") dB = product(product(dOut, out, "mul"), b, "div");
      const sign = kind === "sub" || kind === "div" ? -1 : 1;
      gradients.add(b, scaled(summedTo(dB, b), sign));
    }
  });
  return out;
}

/** Sums the leading repeats of a gradient away, so that it gets the shape of the operand that was repeated. */
function summedTo(gradient: FloatTensor, operand: FloatTensor): FloatTensor {
  if (gradient.size === operand.size) return gradient.view(operand.shape);
  const out = emptyLike(operand);
  const repeats = gradient.view([gradient.size / operand.size, operand.size]);
  reduceRowsInto(repeats, { buffer: out.view([operand.size]), accumulate: false });
  return out;
}

function scaled(x: FloatTensor, factor: number): FloatTensor {
  if (factor === 1) return x;
  const out = emptyLike(x);
  native().ops.axpby(x.handle, out.handle, factor, 0);
  return out;
}

/** `factor · x`. */
export function scale<S extends Shape>(x: FloatTensor<S>, factor: number): FloatTensor<S> {
  const out = emptyLike(x);
  native().ops.axpby(x.handle, out.handle, factor, 0);
  record([x], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (dOut && gradients.wants(x)) gradients.add(x, scaled(dOut, factor));
  });
  return out;
}

/** `out = alpha · x + beta · out`, in place, outside of autograd. */
export function axpby(alpha: number, x: FloatTensor, beta: number, out: FloatTensor): void {
  native().ops.axpby(x.handle, out.handle, alpha, beta);
  out.leaf?.changed();
}

/** Sets every element, in place. */
export function fill(out: Tensor, value: number): void {
  native().ops.fill(out.handle, value);
  out.leaf?.changed();
}

/** The elements in another dtype, rounded to nearest even; floats become i32 by truncation. Not differentiable. */
export function cast<D extends DType, S extends Shape>(x: Tensor<DType, S>, dtype: D): Tensor<D, S> {
  const out = empty(dtype, x.shape, x.device);
  native().ops.cast(x.handle, out.handle);
  return out;
}
