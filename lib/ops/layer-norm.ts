import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import { empty, emptyLike, type FloatTensor, type Shape, Tensor } from "../tensor.js";
import { markSummed, type RoutedRows, summedRows, unsummed } from "./dispatch.js";
import { type Dropout, noDropout } from "./dropout.js";
import { rowsOf } from "./view.js";

/**
 * Layer normalisation over the last axis, fused with the dropout and residual sum before it (Ba et al. 2016):
 *
 *     s = x + dropout(branch);   y = (s - mean) / sqrt(variance + eps) · weight + bias
 *
 * @param x `[..., d]`, the residual stream.
 * @param branch Shape of x, or null. Of {@link RoutedRows} the op makes the sums itself.
 * @param weight `[d]`.
 * @param bias `[d]`.
 * @returns Shape of x.
 * @throws {ValueError} when an op has summed these routed rows before.
 */
export function layerNorm<S extends Shape>(
  x: FloatTensor<S>,
  branch: FloatTensor | RoutedRows | null,
  weight: FloatTensor,
  bias: FloatTensor,
  options: { eps?: number; dropout?: Dropout } = {},
): FloatTensor<S> {
  const { eps = 1e-5, dropout: { probability, seed, call } = noDropout } = options;
  const { ops } = native();
  const { device } = x;
  const x2 = rowsOf(x);
  const [count] = x2.shape;
  const added =
    branch instanceof Tensor ? summedRows(branch) : branch && unsummed("layerNorm", "branch", branch);
  const y = emptyLike(x);
  const sum = added ? empty(device.float, x2.shape, device) : null;
  const mean = empty(device.float, [count], device);
  const rstd = empty(device.float, [count], device);
  ops.layerNorm(
    x2.handle,
    added?.rows.handle ?? null,
    added?.routed?.inversePermutation.handle ?? null,
    weight.handle,
    bias.handle,
    rowsOf(y).handle,
    sum?.handle ?? null,
    mean.handle,
    rstd.handle,
    added?.routed?.topK ?? 1,
    eps,
    probability,
    seed,
    call,
  );
  if (added) {
    markSummed(added);
    added.rows.dispose();
  }
  record([x, ...(added?.inputs ?? []), weight, bias], [y], (gradients) => {
    const dY = gradients.of(y);
    if (!dY) return;
    // Always computed: d_x is what everything else is made of.
    const { buffer: dX, accumulate } = gradients.wants(x)
      ? gradients.target(x)
      : { buffer: emptyLike(x2), accumulate: false };
    const dBranch = added?.inputs.some((input) => gradients.wants(input)) ? emptyLike(x2) : null;
    ops.layerNormBackward(
      rowsOf(dY).handle,
      (sum ?? x2).handle,
      mean.handle,
      rstd.handle,
      weight.handle,
      rowsOf(dX).handle,
      dBranch?.handle ?? null,
      gradients.sink(weight).handle,
      gradients.sink(bias).handle,
      accumulate,
      dBranch ? probability : 0,
      seed,
      call,
    );
    if (dBranch) added?.backward(gradients, dBranch);
  });
  return y;
}
