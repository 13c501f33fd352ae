import { range } from "../support/nd-array.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  int32,
  normal,
  opCases,
  output,
  target,
} from "../support/op-case.js";
import { combinedRows, routedRows, routing, sortByExpert, type Spread } from "../support/routing.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  tokens: number;
  experts: number;
  topK: number;
  spread?: Spread;
  dModel?: number;
  accumulate?: boolean;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { tokens: 33, experts: 7, topK: 3, dModel: 97 },
  "one of everything": { tokens: 1, experts: 1, topK: 1 },
  "one token": { tokens: 1, experts: 9, topK: 4, dModel: 7 },
  "one expert": { tokens: 33, experts: 1, topK: 1, dModel: 7 },
  "k = E": { tokens: 17, experts: 5, topK: 5, dModel: 33 },
  "an expert without tokens": { tokens: 9, experts: 4, topK: 2, spread: "one empty", dModel: 7 },
  "all tokens to one expert": { tokens: 33, experts: 4, topK: 1, spread: "all to one", dModel: 7 },
  "dropped pairs": { tokens: 33, experts: 4, topK: 2, spread: "dropped", dModel: 7 },
  "dropped pairs, accumulating": {
    tokens: 9,
    experts: 4,
    topK: 2,
    spread: "dropped",
    dModel: 33,
    accumulate: true,
  },
  "many experts": { tokens: 97, experts: 130, topK: 2, dModel: 5, accumulate: true },
  "more experts than tokens": { tokens: 601, experts: 1300, topK: 2 },
  "many slots": { tokens: 9, experts: 23, topK: 19, dModel: 7 },
  "several tasks": { tokens: 3001, experts: 16, topK: 2, dModel: 5 },
};

const dispatch = opCases({
  op: "dispatch",
  cases,
  args: ({ tokens, experts, topK, spread }: Sizes) => ({
    expertIndices: int32([tokens, topK], routing(tokens, experts, topK, spread).expertIndices),
    expertOffsets: output([experts + 1], "i32"),
    permutation: output([tokens * topK], "i32"),
    inversePermutation: output([tokens * topK], "i32"),
  }),
  tolerance: () => "exact",
  oracle: ({ expertIndices, expertOffsets }) => {
    const sorted = sortByExpert(Array.from(expertIndices.data), expertOffsets.size - 1);
    return {
      expertOffsets: sorted.expertOffsets,
      permutation: sorted.permutation,
      inversePermutation: sorted.inversePermutation,
    };
  },
  bad: [
    badShape(
      "indices of one axis",
      {
        expertIndices: int32(
          [99],
          range(99).map(() => 0),
        ),
      },
      '"expert_indices" has shape [99], expected [num_tokens, top_k]',
    ),
    badDType("float indices", { expertIndices: normal([33, 3]) }, "expected i32"),
    badValue(
      "offsets for no expert",
      { expertOffsets: output([1], "i32") },
      '"expert_offsets" needs at least 2 entries',
    ),
    badShape(
      "permutation too short",
      { permutation: output([98], "i32") },
      '"permutation" has shape [98], expected [num_routed=99]',
    ),
    badShape(
      "inverse permutation too long",
      { inversePermutation: output([100], "i32") },
      '"inverse_permutation" has shape [100]',
    ),
  ],
  badContent: [
    badValue(
      "expert = num_experts",
      {
        expertIndices: int32(
          [33, 3],
          range(99).map((f) => (f === 50 ? 7 : 0)),
        ),
      },
      "dispatch: expert_indices[50] is 7, expected -1 to 6",
    ),
    badValue(
      "below -1",
      {
        expertIndices: int32(
          [33, 3],
          range(99).map((f) => (f === 98 ? -2 : 0)),
        ),
      },
      "dispatch: expert_indices[98] is -2",
    ),
  ],
});

const combine = opCases({
  op: "combine",
  cases,
  args: ({ tokens, experts, topK, spread, dModel = 1, accumulate = false }: Sizes) => {
    const routed = routing(tokens, experts, topK, spread);
    return {
      rows: routedRows(routed, dModel),
      inversePermutation: int32([tokens * topK], routed.inversePermutation),
      out: target([tokens, dModel], accumulate),
      topK,
      accumulate,
    };
  },
  tolerance: ({ topK }) => reduction(topK),
  oracle: ({ rows, inversePermutation, out, topK, accumulate }) => ({
    out: combinedRows(rows, inversePermutation, topK).map((sum, i) => sum + (accumulate ? out.flat(i) : 0)),
  }),
  bad: [
    badValue("top_k 0", { topK: 0 }, '"top_k" is 0, expected 1 to 99'),
    badValue("rows no multiple of top_k", { topK: 2 }, '"rows" is not a multiple of top_k'),
    badShape(
      "out of another width",
      { out: output([33, 96]) },
      '"out" has shape [33, 96], expected [num_tokens=33, d_model=97]',
    ),
    badShape(
      "inverse permutation of another length",
      { inversePermutation: int32([98], range(98)) },
      '"inverse_permutation" has shape [98], expected [num_routed=99]',
    ),
  ],
  badContent: [
    badValue(
      "row past the end",
      {
        inversePermutation: int32(
          [99],
          range(99).map((f) => (f === 3 ? 99 : f)),
        ),
      },
      "combine: inverse_permutation[3] is 99, expected -1 to 98",
    ),
    badValue(
      "below -1",
      {
        inversePermutation: int32(
          [99],
          range(99).map((f) => (f === 3 ? -5 : f)),
        ),
      },
      "inverse_permutation[3] is -5",
    ),
  ],
});

export default { ops: [dispatch, combine] } satisfies Family;
