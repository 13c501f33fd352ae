import { type Dispatch, dispatch } from "../ops/dispatch.js";
import { balanceLoss, routerEntropy, routerTopK, type TopK } from "../ops/router.js";
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

/** Where the tokens of one layer go. Its tensors belong to the current scope. */
export interface Routing extends TopK, Dispatch {
  /** Load-balancing loss `[1]`, not yet weighted; null where the gate has none. */
  balanceLoss: FloatTensor<[1]> | null;
}

/**
 * Routes each token to its experts:
 *
 *     logits = x · Wᵀ + b;   keep the topK best;   weight them as the gate says
 *
 * @param x `[numTokens, dModel]`.
 */
export function route(x: FloatTensor, { weight, bias, topK, gate }: Router): Routing {
  const kept = routerTopK(x, weight, bias, topK, gate.weighting);
  const routed = dispatch(kept.expertIndices, weight.shape[0] ?? 0);
  const { perToken } = gate.balance;
  const loss =
    gate.balance.weight > 0 ? balanceLoss(kept.logits, routed.expertOffsets, topK, perToken) : null;
  return { ...kept, ...routed, balanceLoss: loss };
}

/** What is worth watching about a routing, computed on the device when asked for. Not differentiable. */
export interface RouterStatistics {
  /** Mean over tokens of the entropy of softmax over all experts, `[1]`, in nats. */
  entropy: FloatTensor<[1]>;
  /** `[numExperts + 1]` i32: expert e got `expertOffsets[e + 1] - expertOffsets[e]` of the routed pairs. */
  expertOffsets: Dispatch["expertOffsets"];
}

export function routerStatistics({ logits, expertOffsets }: Routing): RouterStatistics {
  return { entropy: routerEntropy(logits), expertOffsets };
}
