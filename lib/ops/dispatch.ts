import { type Gradients, record } from "../autograd/tape.js";
import { ValueError } from "../errors.js";
import { native } from "../native.js";
import { checkInteger } from "../options.js";
import { empty, type FloatTensor, type IndexTensor, type Tensor } from "../tensor.js";
import { expectRank, rowsOf } from "./view.js";

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

/**
 * What a function of the tokens' routed rows hands to the op that sums them, {@link combine} or `layerNorm`. That op
 * takes over the rows, which it frees, and their backward rule; a second one is refused.
 */
export interface RoutedRows {
  /** `[numTokens · topK, d]` in expert order; `[numTokens, d]`, summed already, where `routed` is null. */
  readonly rows: FloatTensor<[number, number]>;
  readonly routed: Dispatch | null;
  /** What the rows were made of. */
  readonly inputs: readonly Tensor[];
  /** Passes the gradient of the sums, `[numTokens, d]`, on to the inputs. */
  readonly backward: (gradients: Gradients, dSums: FloatTensor) => void;
}

const summed = new WeakSet<RoutedRows>();

/**
 * Routed rows that `op` is about to sum.
 *
 * @throws {ValueError} when an op has summed them before.
 */
export function unsummed(op: string, arg: string, rows: RoutedRows): RoutedRows {
  if (summed.has(rows)) {
    throw new ValueError(
      op,
      arg,
      `"${arg}" are routed rows that combine or layerNorm has summed and freed before`,
      "sum them once, with combine(), and pass that sum to every op",
    );
  }
  return rows;
}

/** To be called by the op that has summed the rows: nobody else may. */
export function markSummed(rows: RoutedRows): void {
  summed.add(rows);
}

/**
 * The sum of each token's rows in slot order, `[numTokens, d]`.
 *
 * @throws {ValueError} when an op has summed these rows before.
 */
export function combine(routedRows: RoutedRows): FloatTensor<[number, number]> {
  const { rows, routed, inputs, backward } = unsummed("combine", "routedRows", routedRows);
  let sums = rows;
  if (routed) {
    const { inversePermutation, topK } = routed;
    const [numRouted, d] = rows.shape;
    sums = empty(rows.dtype, [numRouted / topK, d] as [number, number], rows.device);
    native().ops.combine(rows.handle, inversePermutation.handle, sums.handle, topK, false);
    rows.dispose();
  }
  markSummed(routedRows);
  record(inputs, [sums], (gradients) => {
    const dSums = gradients.of(sums);
    if (dSums) backward(gradients, dSums);
  });
  return sums;
}

/** A tensor with a row for each token, in the place of routed rows. */
export function summedRows(x: FloatTensor): RoutedRows {
  return {
    rows: rowsOf(x),
    routed: null,
    inputs: [x],
    backward: (gradients, dX) => {
      gradients.add(x, dX);
    },
  };
}
