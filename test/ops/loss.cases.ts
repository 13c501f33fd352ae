import { add, mul, scale } from "../../lib/ops/elementwise.js";
import { linear } from "../../lib/ops/gemm.js";
import { crossEntropy, tailCrossEntropy } from "../../lib/ops/loss.js";
import { sum } from "../../lib/ops/reduce.js";

import type { FloatTensor } from "../../lib/tensor.js";
import { grid, logSumExp, type NdArray, range, sumOf } from "../support/nd-array.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  filled,
  type GradientCase,
  indexRange,
  int32,
  normal,
  opCases,
  optional,
  output,
  uniform,
} from "../support/op-case.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  tokens: number;
  columns: number;
  /** c_1, ..., c_n, V; columns = c_1 + n. */
  cutoffs?: number[];
  std?: number;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { tokens: 7, columns: 97 },
  "one of everything": { tokens: 1, columns: 1 },
  "one token": { tokens: 1, columns: 33 },
  "a head with two tails": { tokens: 33, columns: 12, cutoffs: [10, 25, 60] },
  "a head without tails": { tokens: 9, columns: 10, cutoffs: [10] },
  "large logits": { tokens: 9, columns: 33, std: 200 },
  "several tasks": { tokens: 170, columns: 205 },
  "wide rows": { tokens: 9, columns: 1501 },
  "wide rows of whole quads": { tokens: 3, columns: 1504 },
};

const vocabulary = ({ columns, cutoffs }: Sizes): number => cutoffs?.at(-1) ?? columns;

const args = (sizes: Sizes) => {
  const { tokens, columns, cutoffs, std = 2 } = sizes;
  return {
    logits: normal([tokens, columns], { std }),
    targets: indexRange([tokens], 0, vocabulary(sizes) - 1),
    cutoffs: optional(cutoffs !== undefined, int32([cutoffs?.length ?? 0], cutoffs ?? [])),
    nll: output([tokens]),
    lse: output([tokens]),
  };
};

/** The column that predicts a target: cluster i of n has column c_1 + n - i. */
function columnOf(id: number, columns: number, cutoffs: NdArray | null): number {
  if (!cutoffs || id < cutoffs.at(0)) return id;
  return columns - range(cutoffs.size).filter((i) => id >= cutoffs.at(i)).length;
}

const badCutoffs = (op: string) =>
  [
    badValue(
      "target = vocabulary",
      { targets: int32([7], [0, 1, 2, 97, 4, 5, 6]) },
      `${op}: targets[3] is 97, expected 0 to 96`,
    ),
    badValue("negative target", { targets: int32([7], [0, 1, 2, 3, 4, 5, -1]) }, `${op}: targets[6] is -1`),
    badValue(
      "first cutoff and columns disagree",
      { cutoffs: int32([2], [95, 200]) },
      `${op}: cutoffs[0] is 95, expected 96 to 96`,
    ),
    badValue(
      "cutoffs that do not grow",
      { cutoffs: int32([3], [95, 95, 200]) },
      `${op}: cutoffs[1] is 95, expected 96 to`,
    ),
  ] as const;

const badShapes = [
  badShape(
    "logits of one axis",
    { logits: normal([97]) },
    '"logits" has shape [97], expected [num_tokens, num_columns]',
  ),
  badShape(
    "targets of another length",
    { targets: indexRange([8], 0, 96) },
    '"targets" has shape [8], expected [num_tokens=7]',
  ),
  badDType("float targets", { targets: normal([7]) }, "expected i32"),
  badValue(
    "more cutoffs than columns",
    { cutoffs: int32([98], range(98)) },
    '"cutoffs" is 98, expected 1 to 97',
  ),
  badShape("lse of another length", { lse: output([6]) }, '"lse" has shape [6]'),
] as const;

const forward = opCases({
  op: "crossEntropy",
  cases,
  args,
  tolerance: ({ columns }) => reduction(columns),
  oracle: ({ logits, targets, cutoffs }) => {
    const lse = range(targets.size).map((t) => logSumExp(logits.row(t)));
    return {
      lse,
      nll: lse.map((value, t) => value - logits.at(t, columnOf(targets.at(t), logits.shape[1]!, cutoffs))),
    };
  },
  bad: [...badShapes, badShape("nll of another length", { nll: output([8]) }, '"nll" has shape [8]')],
  badContent: badCutoffs("cross_entropy"),
});

/** The log-sum-exp that forward would have saved. */
function lseOf(logits: readonly number[], columns: number): number[] {
  return range(logits.length / columns).map((t) => logSumExp(logits.slice(t * columns, (t + 1) * columns)));
}

const backward = opCases({
  op: "crossEntropyBackward",
  cases,
  args: (sizes: Sizes) => {
    const { targets, cutoffs } = args(sizes);
    const { tokens, columns, std = 2 } = sizes;
    const logits = grid([tokens, columns], (t, c) => Math.fround(std * Math.sin(t * 7.1 + c * c * 0.37)));
    return {
      dNll: normal([tokens]),
      targets,
      cutoffs,
      lse: { dtype: "float" as const, shape: [tokens], values: () => lseOf(logits, columns) },
      logits: { dtype: "float" as const, shape: [tokens, columns], values: () => logits },
    };
  },
  // exp(logit - lse) has the absolute error of its argument.
  tolerance: ({ std = 2 }) => reduction(std * std),
  oracle: ({ dNll, targets, cutoffs, lse, logits }) => ({
    logits: grid(logits.shape, (t, c) => {
      const probability = Math.exp(logits.at(t, c) - lse.at(t));
      return dNll.at(t) * (probability - (c === columnOf(targets.at(t), logits.shape[1]!, cutoffs) ? 1 : 0));
    }),
  }),
  bad: [...badShapes, badShape("d_nll of another length", { dNll: normal([8]) }, '"d_nll" has shape [8]')],
  badContent: badCutoffs("cross_entropy_backward"),
});

interface TailSizes {
  tokens: number;
  width: number;
  size: number;
  firstId: number;
  /** Targets are below this. */
  below: number;
}

const tailCases: Record<string, TailSizes> = {
  "sizes that divide no tile": { tokens: 33, width: 7, size: 97, firstId: 20, below: 150 },
  "one of everything": { tokens: 1, width: 1, size: 1, firstId: 0, below: 1 },
  "one token": { tokens: 1, width: 33, size: 7, firstId: 0, below: 7 },
  "no token in the cluster": { tokens: 9, width: 5, size: 7, firstId: 100, below: 100 },
  "all tokens in the cluster": { tokens: 65, width: 17, size: 31, firstId: 0, below: 31 },
  "several tasks": { tokens: 150, width: 17, size: 130, firstId: 10, below: 170 },
  "a large cluster": { tokens: 9, width: 8, size: 4230, firstId: 3, below: 4233 },
  "a very large cluster": { tokens: 2, width: 1, size: 37_001, firstId: 5, below: 37_006 },
};

const inCluster = (id: number, firstId: number, size: number): boolean =>
  id >= firstId && id < firstId + size;

const tailLogits = (h: NdArray, weight: NdArray, bias: NdArray, t: number): number[] =>
  range(weight.shape[0]!).map(
    (c) => bias.at(c) + sumOf(weight.shape[1]!, (k) => h.at(t, k) * weight.at(c, k)),
  );

const tailArgs = ({ tokens, width, size, firstId, below }: TailSizes) => ({
  h: normal([tokens, width]),
  weight: normal([size, width], { std: width ** -0.5 }),
  bias: normal([size]),
  targets: indexRange([tokens], 0, below - 1),
  firstId,
});

const tail = opCases({
  op: "tailCrossEntropy",
  cases: tailCases,
  args: (sizes: TailSizes) => ({
    ...tailArgs(sizes),
    nll: uniform([sizes.tokens], 0, 3),
    lse: output([sizes.tokens]),
  }),
  tolerance: ({ width, size }) => reduction(width + size),
  oracle: ({ h, weight, bias, targets, nll, firstId }) => {
    const size = weight.shape[0]!;
    const rows = range(targets.size).map((t) => {
      if (!inCluster(targets.at(t), firstId, size)) return { nll: nll.at(t), lse: 0 };
      const logits = tailLogits(h, weight, bias, t);
      const lse = logSumExp(logits);
      return { nll: nll.at(t) + lse - logits[targets.at(t) - firstId]!, lse };
    });
    return { nll: rows.map((row) => row.nll), lse: rows.map((row) => row.lse) };
  },
  bad: [
    badShape(
      "weight of another width",
      { weight: normal([97, 8]) },
      '"weight" has shape [97, 8], expected [size=97, width=7]',
    ),
    badShape("bias of another size", { bias: normal([96]) }, '"bias" has shape [96], expected [size=97]'),
    badShape("targets of another length", { targets: indexRange([32], 0, 9) }, '"targets" has shape [32]'),
    badShape("nll of another length", { nll: normal([32]) }, '"nll" has shape [32]'),
    badShape("lse of another length", { lse: output([32]) }, '"lse" has shape [32]'),
    badShape("h of one axis", { h: normal([33]) }, '"h" has shape [33], expected [num_tokens, width]'),
    badValue("negative first_id", { firstId: -1 }, '"first_id" is -1'),
    badValue("first_id past i32", { firstId: 2147483647 }, '"first_id" is 2.14748e+09'),
  ],
});

const tailBackward = opCases({
  op: "tailCrossEntropyBackward",
  cases: tailCases,
  args: (sizes: TailSizes) => {
    const { tokens, width, size } = sizes;
    return {
      dNll: normal([tokens]),
      ...tailArgs(sizes),
      // Not the log-sum-exp of these logits, but near it: the formula holds for any.
      lse: uniform([tokens], Math.log(size) + 0.5, Math.log(size) + 1),
      dH: output([tokens, width]),
      dWeight: normal([size, width]),
      dBias: normal([size]),
    };
  },
  tolerance: ({ tokens, width, size }) => reduction(Math.max(tokens, size) + width),
  oracle: ({ dNll, h, weight, bias, targets, lse, dH, dWeight, dBias, firstId }) => {
    const size = weight.shape[0]!;
    // d_logits of each token, or undefined outside of the cluster.
    const dLogits = range(targets.size).map((t) => {
      if (!inCluster(targets.at(t), firstId, size)) return undefined;
      return tailLogits(h, weight, bias, t).map(
        (logit, c) => dNll.at(t) * (Math.exp(logit - lse.at(t)) - (c === targets.at(t) - firstId ? 1 : 0)),
      );
    });
    const overTokens = (term: (t: number, d: number[]) => number): number =>
      sumOf(targets.size, (t) => (dLogits[t] ? term(t, dLogits[t]) : 0));
    return {
      dH: grid(dH.shape, (t, k) => sumOf(size, (c) => (dLogits[t]?.[c] ?? 0) * weight.at(c, k))),
      dWeight: grid(dWeight.shape, (c, k) => dWeight.at(c, k) + overTokens((t, d) => d[c]! * h.at(t, k))),
      dBias: grid(dBias.shape, (c) => dBias.at(c) + overTokens((_, d) => d[c]!)),
    };
  },
  bad: [
    badShape("d_nll of another length", { dNll: normal([32]) }, '"d_nll" has shape [32]'),
    badShape("weight of another width", { weight: normal([97, 8]) }, '"weight" has shape [97, 8]'),
    badShape(
      "d_h of another shape",
      { dH: output([33, 8]) },
      '"d_h" has shape [33, 8], expected [num_tokens=33, width=7]',
    ),
    badShape("d_weight of another shape", { dWeight: normal([7, 97]) }, '"d_weight" has shape [7, 97]'),
    badShape("d_bias of another size", { dBias: normal([96]) }, '"d_bias" has shape [96]'),
    badShape("bias of another size", { bias: normal([96]) }, '"bias" has shape [96]'),
    badShape("lse of another length", { lse: normal([32]) }, '"lse" has shape [32]'),
    badValue("negative first_id", { firstId: -7 }, '"first_id" is -7'),
  ],
});

const tailWeights = {
  weight: normal([5, 3]),
  bias: normal([5]),
};

const gradients: GradientCase[] = [
  {
    name: "crossEntropy",
    inputs: { x: normal([6, 5]) },
    constants: { targets: int32([6], [0, 4, 2, 2, 1, 3]) },
    forward: (t) => crossEntropy(t.float("x"), t.index("targets")),
  },
  {
    name: "crossEntropy over two leading axes",
    inputs: { x: normal([2, 3, 5]) },
    constants: { targets: int32([2, 3], [0, 4, 2, 2, 1, 3]) },
    forward: (t) => crossEntropy(t.float("x"), t.index("targets")),
  },
  {
    name: "crossEntropy over logits that it may overwrite",
    inputs: { x: normal([6, 5]) },
    constants: { targets: int32([6], [0, 4, 2, 2, 1, 3]) },
    forward: (t) => crossEntropy(scale(t.float("x"), 2), t.index("targets"), { overwriteLogits: true }),
  },
  {
    name: "crossEntropy over logits whose own op reads them again",
    inputs: { x: normal([6, 4]), w: normal([5, 4]) },
    constants: { targets: int32([6], [0, 4, 2, 2, 1, 3]) },
    forward: (t) => crossEntropy(linear(t.float("x"), t.float("w"), null, "relu"), t.index("targets")),
  },
  {
    name: "crossEntropy over logits that another loss reads",
    inputs: { x: normal([6, 5]) },
    constants: { targets: int32([6], [0, 4, 2, 2, 1, 3]), others: int32([6], [1, 1, 0, 3, 4, 2]) },
    forward: (t) => {
      const logits = scale(t.float("x"), 2);
      const squares = sum(mul(logits, logits));
      const nll = add(crossEntropy(logits, t.index("targets")), crossEntropy(logits, t.index("others")));
      return add(nll, squares);
    },
  },
  {
    name: "adaptive loss: a head and a tail",
    inputs: { h: normal([6, 3]), head: normal([5, 3]), ...tailWeights },
    constants: { targets: int32([6], [0, 4, 8, 2, 6, 3]), cutoffs: int32([2], [4, 9]) },
    forward: (t) => {
      const logits = linear(t.float("h"), t.float("head"));
      const nll = crossEntropy(logits, t.index("targets"), { cutoffs: t.index("cutoffs") });
      return tailCrossEntropy(t.float("h"), t.float("weight"), t.float("bias"), t.index("targets"), nll, 4);
    },
  },
  {
    name: "adaptive loss: two tails that share a projection",
    inputs: { h: normal([7, 3]), head: normal([4, 3]), ...tailWeights, projection: normal([3, 3]) },
    constants: { targets: int32([7], [0, 1, 2, 6, 7, 11, 4]), cutoffs: int32([3], [2, 7, 12]) },
    forward: (t) => {
      const targets = t.index("targets");
      const projected = linear(t.float("h"), t.float("projection"));
      let nll: FloatTensor<[number]> = crossEntropy(linear(t.float("h"), t.float("head")), targets, {
        cutoffs: t.index("cutoffs"),
      });
      nll = tailCrossEntropy(projected, t.float("weight"), t.float("bias"), targets, nll, 2);
      return tailCrossEntropy(projected, t.float("weight"), t.float("bias"), targets, nll, 7);
    },
  },
  {
    name: "tail loss, only its bias trained",
    inputs: { bias: normal([5]) },
    constants: {
      h: normal([4, 3]),
      weight: normal([5, 3]),
      targets: int32([4], [4, 0, 6, 8]),
      nll: filled([4], 1),
    },
    forward: (t) =>
      tailCrossEntropy(
        t.float("h"),
        t.float("weight"),
        t.float("bias"),
        t.index("targets"),
        t.float<[number]>("nll"),
        4,
      ),
  },
];

export default { ops: [forward, backward, tail, tailBackward], gradients } satisfies Family;
