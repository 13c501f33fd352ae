import { type Dispatch, dispatch } from "../ops/dispatch.js";
import { balanceLoss, routerTopK, type TopK } from "../ops/router.js";
import type { FloatTensor } from "../tensor.js";
import type { Gate } from "./gates.js";

/** The router of one layer, as of now. */
export interface Router {
  /** `[numExperts, dModel]` */
  weight: FloatTensor;
  /** `[numExperts]` */
  bias: FloatTensor;
  /** Experts kept per token. */
  topK: number;
  gate: Gate;
}

/**
 * Where the tokens of one layer go. Its tensors belong to the current scope. Statistics come from it when asked for:
 * `routerEntropy(logits)`, and the load `expertOffsets[e + 1] - expertOffsets[e]` of expert e.
 */
export interface Routing extends TopK, Dispatch {
  /** Load-balancing loss `[1]`, not yet weighted; null where the gate has none. */
  balanceLoss: FloatTensor<[1]> | null;
}

/**
 * Elements of x. With fewer, sums over all experts are too few, and too long, to keep a GPU busy. The order of a sum is
 * another on either side: with k = E the last bits of a token's result depend on how many tokens come with it.
 */
const leastDenseSize = 1 << 19;

/**
 * Routes each token to its experts:
 *
 *     logits = x · Wᵀ + b;   keep the topK best;   weight them as the gate says
 *
 * @param x `[numTokens, dModel]`.
 */
export function route(x: FloatTensor, { weight, bias, topK, gate }: Router): Routing {
  const kept = routerTopK(x, weight, bias, topK, gate.weighting);
  const [numExperts = 0] = weight.shape;
  const dense = topK === numExperts && x.size >= leastDenseSize;
  const routed = dispatch(kept.expertIndices, numExperts, dense);
  const { perToken } = gate.balance;
  const loss =
    gate.balance.weight > 0 ? balanceLoss(kept.logits, routed.expertOffsets, topK, perToken) : null;
  return { ...kept, ...routed, balanceLoss: loss };
}
