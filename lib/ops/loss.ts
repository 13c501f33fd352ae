import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import { empty, emptyLike, type FloatTensor, type IndexTensor } from "../tensor.js";
import { clone, rowsOf } from "./view.js";

/** How {@link crossEntropy} treats its arguments. */
export interface CrossEntropyOptions {
  /**
   * For the head of an adaptive softmax: `[c_1, ..., c_n, vocabSize]`, i32. Columns are then the c_1 first ids and n
   * tail clusters; targets of tail i count as column `c_1 + n - i`.
   */
  cutoffs?: IndexTensor | null;
  /**
   * Lets backward write the gradient over the logits, which saves a tensor of their size. Only for logits that no
   * other op reads and that are no parameter. Default false.
   */
  overwriteLogits?: boolean;
}

/**
 * `-log softmax(logits)[target]` per position, in nats.
 *
 * @param logits `[..., columns]`. Borrowed.
 * @param targets One id per position, i32. Ids outside the vocabulary are a `ValueError`, reported where the result
 *   is read.
 * @returns `[positions]`.
 */
export function crossEntropy(
  logits: FloatTensor,
  targets: IndexTensor,
  { cutoffs = null, overwriteLogits = false }: CrossEntropyOptions = {},
): FloatTensor<[number]> {
  const { ops } = native();
  const { device } = logits;
  const logits2 = rowsOf(logits);
  const flatTargets = targets.view([targets.size]);
  const nll = empty(device.float, [logits2.shape[0]] as [number], device);
  const lse = emptyLike(nll);
  const cutoffsHandle = cutoffs?.handle ?? null;
  ops.crossEntropy(logits2.handle, flatTargets.handle, cutoffsHandle, nll.handle, lse.handle);
  record([logits], [nll], (gradients) => {
    const dNll = gradients.of(nll);
    if (!dNll || !gradients.wants(logits)) return;
    const dLogits = overwriteLogits ? logits2 : clone(logits2);
    ops.crossEntropyBackward(dNll.handle, flatTargets.handle, cutoffsHandle, lse.handle, dLogits.handle);
    gradients.add(logits, dLogits);
  });
  return nll;
}

/**
 * `nll` plus the loss within one tail cluster of an adaptive softmax (Grave et al. 2017), for the positions whose
 * target lies in it. Logits exist for a block of positions at a time only.
 *
 * @param hidden `[positions, width]`, already projected to the cluster's width.
 * @param weight `[size, width]`, `bias` `[size]`: the output layer of ids `firstId .. firstId + size - 1`.
 * @param nll `[positions]`, from the head or the tails before.
 * @returns `[positions]`.
 */
export function tailCrossEntropy(
  hidden: FloatTensor,
  weight: FloatTensor,
  bias: FloatTensor,
  targets: IndexTensor,
  nll: FloatTensor<[number]>,
  firstId: number,
): FloatTensor<[number]> {
  const { ops } = native();
  const flatTargets = targets.view([targets.size]);
  const lse = emptyLike(nll);
  const out = clone(nll);
  ops.tailCrossEntropy(
    hidden.handle,
    weight.handle,
    bias.handle,
    flatTargets.handle,
    out.handle,
    lse.handle,
    firstId,
  );
  record([hidden, weight, bias, nll], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    const dHidden = emptyLike(hidden);
    ops.tailCrossEntropyBackward(
      dOut.handle,
      hidden.handle,
      weight.handle,
      bias.handle,
      flatTargets.handle,
      lse.handle,
      dHidden.handle,
      gradients.sink(weight).handle,
      gradients.sink(bias).handle,
      firstId,
    );
    if (gradients.wants(hidden)) gradients.add(hidden, dHidden);
    if (gradients.wants(nll)) gradients.add(nll, dOut);
  });
  return out;
}
