import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import type { RandomCall } from "../random.js";
import { emptyLike, type FloatTensor, type Shape } from "../tensor.js";

/** Dropout of one op call: the probability to drop, and where its random bits come from. */
export interface Dropout extends RandomCall {
  /** 0 <= probability < 1. Kept elements are scaled by `1 / (1 - probability)`. */
  probability: number;
}

/** No dropout. */
export const noDropout: Dropout = { probability: 0, seed: 0, call: 0 };

/**
 * `residual + mask · x / (1 - p)`. Masks come from counters and are never stored: backward draws them again.
 *
 * @param residual Shape of x; added after the mask.
 */
export function dropout<S extends Shape>(
  x: FloatTensor<S>,
  options: Dropout,
  residual: FloatTensor | null = null,
): FloatTensor<S> {
  const { probability, seed, call } = options;
  const y = emptyLike(x);
  native().ops.dropout(x.handle, residual?.handle ?? null, y.handle, probability, seed, call);
  record([x, residual], [y], (gradients) => {
    const dY = gradients.of(y);
    if (!dY) return;
    if (gradients.wants(x)) {
      const dX = emptyLike(x);
      native().ops.dropout(dY.handle, null, dX.handle, probability, seed, call);
      gradients.add(x, dX);
    }
    if (gradients.wants(residual)) gradients.add(residual, dY);
  });
  return y;
}
