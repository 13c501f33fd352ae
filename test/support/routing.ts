import { grid, NdArray, range, sumOf } from "./nd-array.js";
import type { TensorSpec } from "./op-case.js";
import { CaseRandom } from "./random.js";

/** How the pairs of a case are spread over experts. */
export type Spread = "random" | "all to one" | "one empty" | "dropped";

export interface Routing {
  /** `[tokens, topK]`; -1 where a pair is dropped. */
  expertIndices: number[];
  /** `[experts + 1]` */
  expertOffsets: number[];
  /** `[tokens · topK]`; -1 past the last routed row. */
  permutation: number[];
  /** `[tokens · topK]`; -1 where a pair is dropped. */
  inversePermutation: number[];
  /** Routed rows; the rest was dropped. */
  numRows: number;
  /** The expert of each routed row. */
  expertOfRow: number[];
}

/** A routing of `tokens · topK` pairs over experts; the experts of one token differ where that is possible. */
export function routing(tokens: number, experts: number, topK: number, spread: Spread = "random"): Routing {
  const random = new CaseRandom(`routing ${tokens} ${experts} ${topK} ${spread}`);
  const expertIndices = range(tokens).flatMap(() => {
    if (spread === "all to one") return range(topK).map(() => experts - 1);
    const free = range(experts).filter((e) => spread !== "one empty" || e !== 0 || experts === 1);
    return range(topK).map(() => {
      const chosen = free.length > 0 ? free.splice(random.below(free.length), 1)[0]! : experts - 1;
      return spread === "dropped" && random.next() < 0.4 ? -1 : chosen;
    });
  });
  return sortByExpert(expertIndices, experts);
}

/** The stable counting sort of `dispatch`, by sorting. */
export function sortByExpert(expertIndices: readonly number[], experts: number): Routing {
  const pairs = range(expertIndices.length).filter((f) => expertIndices[f]! >= 0);
  pairs.sort((a, b) => expertIndices[a]! - expertIndices[b]! || a - b);
  return {
    expertIndices: [...expertIndices],
    expertOffsets: range(experts + 1).map((e) => pairs.filter((f) => expertIndices[f]! < e).length),
    permutation: range(expertIndices.length).map((row) => pairs[row] ?? -1),
    inversePermutation: invert(pairs, expertIndices.length),
    numRows: pairs.length,
    expertOfRow: pairs.map((f) => expertIndices[f]!),
  };
}

/** Rows in expert order, `[tokens · topK, width]`. NaN past the last routed row: those are never read. */
export function routedRows({ permutation, numRows }: Routing, width: number): TensorSpec {
  const count = permutation.length * width;
  return {
    dtype: "float",
    shape: [permutation.length, width],
    values: (random) => random.normals(count, 0, 1).map((value, i) => (i < numRows * width ? value : NaN)),
  };
}

/** The sum of each token's routed rows, `[tokens, width]`. */
export function combinedRows(rows: NdArray, inversePermutation: NdArray, topK: number): NdArray {
  const [numRouted, width] = rows.shape as [number, number];
  const shape = [numRouted / topK, width];
  const sums = grid(shape, (t, j) =>
    sumOf(topK, (slot) => {
      const row = inversePermutation.at(t * topK + slot);
      return row < 0 ? 0 : rows.at(row, j);
    }),
  );
  return new NdArray(shape, sums);
}

function invert(pairs: readonly number[], count: number): number[] {
  const rowOf = new Map(pairs.map((f, row) => [f, row]));
  return range(count).map((f) => rowOf.get(f) ?? -1);
}
