import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import { checkInteger } from "../options.js";
import type { Weighting } from "../native-ops.gen.js";
import { empty, emptyLike, type FloatTensor, type IndexTensor } from "../tensor.js";
import { reduceRowsInto } from "./reduce.js";
import { expectRank } from "./view.js";

export type { Weighting };

/** The experts chosen for each token. */
export interface TopK {
  /** Router logits, `[numTokens, numExperts]`. */
  logits: FloatTensor<[number, number]>;
  /** Best first, ties to the lower index; `[numTokens, topK]` i32. */
  expertIndices: IndexTensor<[number, number]>;
  /** `[numTokens, topK]`; rows sum to 1. */
  expertWeights: FloatTensor<[number, number]>;
}

/**
 * Scores every expert for every token and keeps the best `topK`:
 *
 *     logits = x · Wᵀ + b;   weights = softmax over the kept logits  (or 1 / topK when `uniform`)
 *
 * @param x Hidden states `[numTokens, dModel]`.
 * @param weight `[numExperts, dModel]`. @param bias `[numExperts]` or null.
 */
export function routerTopK(
  x: FloatTensor,
  weight: FloatTensor,
  bias: FloatTensor | null,
  topK: number,
  weighting: Weighting = "softmax_kept",
): TopK {
  const { ops } = native();
  const { device } = x;
  expectRank("routerTopK", "x", x, 2);
  expectRank("routerTopK", "weight", weight, 2);
  const [numTokens = 0] = x.shape;
  const [numExperts = 0] = weight.shape;
  checkInteger("topK", topK, 1, numExperts);
  const logits = empty(device.float, [numTokens, numExperts] as [number, number], device);
  const expertIndices = empty("i32", [numTokens, topK] as [number, number], device);
  const expertWeights = empty(device.float, [numTokens, topK] as [number, number], device);
  ops.routerTopk(
    x.handle,
    weight.handle,
    bias?.handle ?? null,
    logits.handle,
    expertIndices.handle,
    expertWeights.handle,
    topK,
    weighting,
  );
  record([x, weight, bias], [logits, expertWeights], (gradients) => {
    const dWeights = weighting === "uniform" ? undefined : gradients.of(expertWeights);
    let dLogits = gradients.of(logits);
    if (dWeights) {
      // The gradient of the logits themselves (a balance loss), if any, is added to.
      const own = emptyLike(logits);
      if (dLogits) native().copyTensor(dLogits.handle, own.handle);
      ops.routerTopkBackward(
        dWeights.handle,
        expertWeights.handle,
        expertIndices.handle,
        own.handle,
        dLogits !== undefined,
      );
      dLogits = own;
    }
    if (!dLogits) return;
    if (gradients.wants(x)) {
      const { buffer, accumulate } = gradients.target(x);
      ops.gemm(dLogits.handle, weight.handle, null, buffer.handle, false, false, "none", accumulate);
    }
    if (gradients.wants(weight)) {
      const { buffer, accumulate } = gradients.target(weight);
      ops.gemm(dLogits.handle, x.handle, null, buffer.handle, true, false, "none", accumulate);
    }
    if (gradients.wants(bias)) reduceRowsInto(dLogits, gradients.target(bias));
  });
  return { logits, expertIndices, expertWeights };
}

/** Mean over tokens of the entropy of softmax over all experts, in nats. @returns `[1]`. Not differentiable. */
export function routerEntropy(logits: FloatTensor): FloatTensor<[1]> {
  const out = empty(logits.device.float, [1] as [1], logits.device);
  native().ops.routerEntropy(logits.handle, out.handle);
  return out;
}

/**
 * Load-balancing loss `numExperts · Σ_i f_i · P_i` (Shazeer et al. 2017; Fedus et al. 2021).
 *
 * f_i: share of routed pairs sent to expert i, without gradient. P_i: sum over tokens of softmax(logits)_i, divided
 * by `numTokens · topK` as in the HyperRouter code, or by `numTokens` with `perToken` as in the Switch paper.
 *
 * @param expertOffsets `[numExperts + 1]`, from `dispatch`.
 * @returns `[1]`.
 */
export function balanceLoss(
  logits: FloatTensor,
  expertOffsets: IndexTensor,
  topK: number,
  perToken = false,
): FloatTensor<[1]> {
  const { ops } = native();
  const loss = empty(logits.device.float, [1] as [1], logits.device);
  ops.balanceLoss(logits.handle, expertOffsets.handle, loss.handle, topK, perToken);
  record([logits], [loss], (gradients) => {
    const dLoss = gradients.of(loss);
    if (!dLoss || !gradients.wants(logits)) return;
    const { buffer, accumulate } = gradients.target(logits);
    ops.balanceLossBackward(
      dLoss.handle,
      logits.handle,
      expertOffsets.handle,
      buffer.handle,
      topK,
      perToken,
      accumulate,
    );
  });
  return loss;
}
