import { native } from "../native.js";
import { checkInteger } from "../options.js";
import { empty, type IndexTensor } from "../tensor.js";
import { expectRank } from "./view.js";

/** Where each routed (token, slot) pair goes. Stays on the device. */
export interface Dispatch {
  /** `[numExperts + 1]`: the rows of expert e are `expertOffsets[e] .. expertOffsets[e + 1]`. */
  expertOffsets: IndexTensor<[number]>;
  /** `[numTokens · topK]`: routed row -> flat index `token · topK + slot`; -1 past the last row. */
  permutation: IndexTensor<[number]>;
  /** `[numTokens · topK]`: flat index -> routed row; -1 where the pair was dropped. */
  inversePermutation: IndexTensor<[number]>;
  topK: number;
  /**
   * Whether {@link mixExperts} may rely on every token going to every expert, once. Expert e's rows are then those
   * of all tokens in order, and it sums over the experts without a product for each.
   */
  dense: boolean;
}

/**
 * Puts routed pairs into expert order with a stable counting sort, so that results do not depend on threads.
 *
 * @param expertIndices `[numTokens, topK]` i32; -1 drops a pair.
 * @param dense The caller knows that every token goes to every expert, once.
 */
export function dispatch(
  expertIndices: IndexTensor<[number, number]>,
  numExperts: number,
  dense = false,
): Dispatch {
  expectRank("dispatch", "expertIndices", expertIndices, 2);
  checkInteger("numExperts", numExperts, 1);
  const { device } = expertIndices;
  const [, topK] = expertIndices.shape;
  const numRouted = expertIndices.size;
  const expertOffsets = empty("i32", [numExperts + 1] as [number], device);
  const permutation = empty("i32", [numRouted] as [number], device);
  const inversePermutation = empty("i32", [numRouted] as [number], device);
  native().ops.dispatch(
    expertIndices.handle,
    expertOffsets.handle,
    permutation.handle,
    inversePermutation.handle,
  );
  return { expertOffsets, permutation, inversePermutation, topK, dense };
}
