import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import type { Activation } from "../native-ops.gen.js";
import { emptyLike, type FloatTensor, type Shape } from "../tensor.js";

export type { Activation };

/** `act(x)`, elementwise. `gelu` is the exact form `x·Φ(x)`, `silu` is `x·sigmoid(x)`; relu's slope at 0 is 0. */
export function activation<S extends Shape>(x: FloatTensor<S>, kind: Activation): FloatTensor<S> {
  const y = emptyLike(x);
  native().ops.activation(x.handle, y.handle, kind);
  record([x], [y], (gradients) => {
    const dY = gradients.of(y);
    if (!dY || !gradients.wants(x)) return;
    const dX = emptyLike(x);
    native().ops.activationBackward(dY.handle, x.handle, dX.handle, kind);
    gradients.add(x, dX);
  });
  return y;
}

export function relu<S extends Shape>(x: FloatTensor<S>): FloatTensor<S> {
  return activation(x, "relu");
}

export function gelu<S extends Shape>(x: FloatTensor<S>): FloatTensor<S> {
  return activation(x, "gelu");
}
