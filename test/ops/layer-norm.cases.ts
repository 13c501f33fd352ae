import { add } from "../../lib/ops/elementwise.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { grid, type NdArray, range, sumOf } from "../support/nd-array.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  filled,
  type GradientCase,
  int32,
  normal,
  opCases,
  optional,
  output,
  target,
  uniform,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";
import { combinedRows, routedRows, routing, type Spread } from "../support/routing.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  rows: number;
  d: number;
  branch?: boolean;
  /** The branch is the sum of topK routed rows. */
  experts?: number;
  topK?: number;
  spread?: Spread;
  dropout?: number;
  eps?: number;
  /** Mean of the rows, in standard deviations. */
  offset?: number;
  accumulate?: boolean;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { rows: 7, d: 33, branch: true },
  "one of everything": { rows: 1, d: 1 },
  "one row": { rows: 1, d: 97, branch: true, dropout: 0.5 },
  "no branch": { rows: 9, d: 65, accumulate: true },
  "dropout on the branch": { rows: 17, d: 31, branch: true, dropout: 0.25, accumulate: true },
  "a large eps": { rows: 5, d: 64, eps: 0.5 },
  "rows far from zero": { rows: 5, d: 64, offset: 30 },
  "several tasks": { rows: 700, d: 97, branch: true, dropout: 0.1 },
  "many rows": { rows: 2200, d: 5, branch: true, dropout: 0.1 },
  "wide rows": { rows: 9, d: 602, branch: true, dropout: 0.1, accumulate: true },
  "very wide rows": { rows: 3, d: 4500, branch: true, dropout: 0.1, accumulate: true },
};

/** Cases of the forward op whose branch is summed from routed rows. */
const routedCases: Record<string, Sizes> = {
  "one token": { rows: 1, d: 7, experts: 9, topK: 4 },
  "one expert": { rows: 33, d: 65, experts: 1, topK: 1 },
  "k = E": { rows: 17, d: 31, experts: 5, topK: 5, dropout: 0.1 },
  "an expert without tokens": { rows: 9, d: 64, experts: 4, topK: 2, spread: "one empty", dropout: 0.25 },
  "all tokens to one expert": { rows: 33, d: 36, experts: 4, topK: 1, spread: "all to one", dropout: 0.1 },
  "dropped pairs": { rows: 33, d: 36, experts: 4, topK: 2, spread: "dropped", dropout: 0.1 },
  "more slots than are read at once": { rows: 5, d: 130, experts: 23, topK: 19 },
  "routed rows, several tasks": { rows: 400, d: 97, experts: 6, topK: 2, dropout: 0.1 },
  "wide routed rows": { rows: 9, d: 602, experts: 5, topK: 2, spread: "dropped", dropout: 0.1 },
  "very wide routed rows": { rows: 3, d: 4500, experts: 5, topK: 3, dropout: 0.1 },
};

interface Row {
  s: number[];
  mean: number;
  rstd: number;
}

/** Each row of x + dropout(branch) with its moments; branch in the order of x. */
function normalised(x: NdArray, branch: NdArray | null, factors: readonly number[], eps: number): Row[] {
  const [count, d] = x.shape as [number, number];
  return range(count).map((row) => {
    const s = range(d).map((j) => x.at(row, j) + (branch ? factors[row * d + j]! * branch.at(row, j) : 0));
    const mean = sumOf(d, (j) => s[j]!) / d;
    const variance = sumOf(d, (j) => (s[j]! - mean) ** 2) / d;
    return { s, mean, rstd: 1 / Math.sqrt(variance + eps) };
  });
}

const seeds = { seed: 3, call: 9 };

const forward = opCases({
  op: "layerNorm",
  cases: { ...cases, ...routedCases },
  args: ({
    rows,
    d,
    branch = false,
    experts = 0,
    topK = 1,
    spread,
    dropout = 0,
    eps = 1e-5,
    offset = 0,
  }: Sizes) => {
    const routed = experts > 0 ? routing(rows, experts, topK, spread) : null;
    return {
      x: normal([rows, d], { mean: offset }),
      branch: routed ? routedRows(routed, d) : optional(branch, normal([rows, d])),
      inversePermutation: routed && int32([rows * topK], routed.inversePermutation),
      topK,
      weight: normal([d], { mean: 1, std: 0.5 }),
      bias: normal([d]),
      y: output([rows, d]),
      sum: optional(branch || routed !== null, output([rows, d])),
      mean: output([rows]),
      rstd: output([rows]),
      eps,
      dropout,
      ...seeds,
    };
  },
  tolerance: ({ d, offset = 0 }) => reduction(d * (1 + offset * offset)),
  oracle: ({ x, branch, inversePermutation, topK, weight, bias, eps, dropout, seed, call }) => {
    const added = branch && inversePermutation ? combinedRows(branch, inversePermutation, topK) : branch;
    const rows = normalised(x, added, dropoutFactors(dropout, { seed, call }, x.size), eps);
    return {
      y: grid(x.shape, (row, j) => {
        const { s, mean, rstd } = rows[row]!;
        return (s[j]! - mean) * rstd * weight.at(j) + bias.at(j);
      }),
      mean: rows.map(({ mean }) => mean),
      rstd: rows.map(({ rstd }) => rstd),
      ...(branch && { sum: rows.flatMap(({ s }) => s) }),
    };
  },
  bad: [
    badShape(
      "x of three axes",
      { x: normal([7, 3, 11]) },
      '"x" has shape [7, 3, 11], expected [num_rows, d_model]',
    ),
    badShape(
      "weight of another width",
      { weight: normal([32]) },
      '"weight" has shape [32], expected [d_model=33]',
    ),
    badShape("bias of another width", { bias: normal([34]) }, '"bias" has shape [34]'),
    badShape(
      "branch of another shape",
      { branch: normal([33, 7]) },
      '"branch" has shape [33, 7], expected [num_rows=7, d_model=33]',
    ),
    badValue("branch without sum", { sum: null }, '"sum" and "branch" go together'),
    badValue("sum without branch", { branch: null }, '"sum" and "branch" go together'),
    badValue(
      "dropout without branch",
      { branch: null, sum: null, dropout: 0.5 },
      '"dropout" applies to "branch", which is absent',
    ),
    badValue("eps 0", { eps: 0 }, '"eps" must be in (0, 1]'),
    badValue("eps NaN", { eps: NaN }, '"eps" must be in (0, 1]'),
    badValue("dropout 1", { dropout: 1 }, '"dropout" is 1'),
    badShape("mean of another length", { mean: output([8]) }, '"mean" has shape [8], expected [num_rows=7]'),
    badShape("rstd of another length", { rstd: output([6]) }, '"rstd" has shape [6]'),
    badShape("y of another shape", { y: output([33, 7]) }, '"y" has shape [33, 7]'),
    badShape("sum of another shape", { sum: output([33, 7]) }, '"sum" has shape [33, 7]'),
    badShape(
      "as many branch rows as x has, routed twice",
      { inversePermutation: int32([14], range(14)), topK: 2 },
      '"branch" has shape [7, 33], expected [num_routed=14, d_model=33]',
    ),
    badShape(
      "inverse permutation of another length",
      { inversePermutation: int32([6], range(6)) },
      '"inverse_permutation" has shape [6], expected [num_routed=7]',
    ),
    badDType("float inverse permutation", { inversePermutation: normal([7]) }, "expected i32"),
    badValue(
      "top_k 0",
      { inversePermutation: int32([7], range(7)), topK: 0 },
      '"top_k" is 0, expected 1 to 7',
    ),
    badValue("top_k alone", { topK: 2 }, '"top_k" applies to "inverse_permutation", which is absent'),
    badValue(
      "inverse permutation alone",
      { branch: null, sum: null, inversePermutation: int32([7], range(7)) },
      '"inverse_permutation" applies to "branch", which is absent',
    ),
  ],
  badContent: [
    badValue(
      "row past the end",
      { inversePermutation: int32([7], [0, 1, 2, 7, 4, 5, 6]) },
      "layer_norm: inverse_permutation[3] is 7, expected -1 to 6",
    ),
    badValue(
      "below -1",
      { inversePermutation: int32([7], [0, 1, 2, 3, 4, 5, -2]) },
      "layer_norm: inverse_permutation[6] is -2",
    ),
  ],
});

const backward = opCases({
  op: "layerNormBackward",
  cases,
  args: ({ rows, d, branch = false, dropout = 0, accumulate = false }: Sizes) => ({
    dY: normal([rows, d]),
    s: normal([rows, d]),
    mean: normal([rows], { std: 0.1 }),
    rstd: uniform([rows], 0.5, 2),
    weight: normal([d], { mean: 1, std: 0.5 }),
    dX: target([rows, d], accumulate),
    dBranch: optional(branch, output([rows, d])),
    dWeight: normal([d]),
    dBias: normal([d]),
    accumulate,
    dropout,
    ...seeds,
  }),
  tolerance: ({ rows, d }) => reduction(Math.max(rows, d)),
  oracle: ({ dY, s, mean, rstd, weight, dX, dBranch, dWeight, dBias, accumulate, dropout, seed, call }) => {
    const [rows, d] = s.shape as [number, number];
    const factors = dropoutFactors(dropout, { seed, call }, s.size);
    const xHat = (row: number, j: number): number => (s.at(row, j) - mean.at(row)) * rstd.at(row);
    const g = (row: number, j: number): number => dY.at(row, j) * weight.at(j);
    const dS = range(rows).flatMap((row) => {
      const meanG = sumOf(d, (j) => g(row, j)) / d;
      const meanGx = sumOf(d, (j) => g(row, j) * xHat(row, j)) / d;
      return range(d).map((j) => rstd.at(row) * (g(row, j) - meanG - xHat(row, j) * meanGx));
    });
    return {
      dX: dS.map((value, i) => value + (accumulate ? dX.flat(i) : 0)),
      dWeight: dWeight.map((value, j) => value + sumOf(rows, (row) => dY.at(row, j) * xHat(row, j))),
      dBias: dBias.map((value, j) => value + sumOf(rows, (row) => dY.at(row, j))),
      ...(dBranch && { dBranch: dS.map((value, i) => value * factors[i]!) }),
    };
  },
  bad: [
    badShape("d_y of another shape", { dY: normal([33, 7]) }, '"d_y" has shape [33, 7]'),
    badShape("s of one axis", { s: normal([231]) }, '"s" has shape [231], expected [num_rows, d_model]'),
    badShape("d_weight of another width", { dWeight: normal([32]) }, '"d_weight" has shape [32]'),
    badShape("d_bias of another width", { dBias: normal([32]) }, '"d_bias" has shape [32]'),
    badShape("weight of another width", { weight: normal([32]) }, '"weight" has shape [32]'),
    badShape("d_x of another shape", { dX: normal([7, 32]) }, '"d_x" has shape [7, 32]'),
    badShape("d_branch of another shape", { dBranch: output([7, 32]) }, '"d_branch" has shape [7, 32]'),
    badShape("mean of another length", { mean: normal([1]) }, '"mean" has shape [1]'),
    badShape("rstd of another length", { rstd: normal([1]) }, '"rstd" has shape [1]'),
    badValue(
      "dropout without d_branch",
      { dBranch: null, dropout: 0.5 },
      '"dropout" applies to "d_branch", which is absent',
    ),
    badValue("dropout NaN", { dropout: NaN }, '"dropout" is nan'),
  ],
});

const parameters = { weight: normal([5], { mean: 1 }), bias: normal([5]) };

const gradients: GradientCase[] = [
  {
    name: "layerNorm",
    inputs: { x: normal([2, 3, 5]), ...parameters },
    forward: (t) => layerNorm(t.float("x"), null, t.float("weight"), t.float("bias")),
  },
  {
    name: "layerNorm with a branch",
    inputs: { x: normal([3, 5]), branch: normal([3, 5]), ...parameters },
    forward: (t) => layerNorm(t.float("x"), t.float("branch"), t.float("weight"), t.float("bias")),
  },
  {
    name: "layerNorm with a dropped branch",
    inputs: { x: normal([3, 5]), branch: normal([3, 5]), ...parameters },
    forward: (t) =>
      layerNorm(t.float("x"), t.float("branch"), t.float("weight"), t.float("bias"), {
        eps: 0.01,
        dropout: { probability: 0.4, seed: 2, call: 8 },
      }),
  },
  {
    name: "layerNorm, only the branch trained",
    inputs: { branch: normal([3, 5]) },
    constants: { x: normal([3, 5]), ...parameters },
    forward: (t) =>
      layerNorm(t.float("x"), t.float("branch"), t.float("weight"), t.float("bias"), {
        dropout: { probability: 0.4, seed: 2, call: 9 },
      }),
  },
  {
    name: "layerNorm, only the residual stream trained, branch dropped",
    inputs: { x: normal([3, 5]) },
    constants: { branch: normal([3, 5]), ...parameters },
    forward: (t) =>
      layerNorm(t.float("x"), t.float("branch"), t.float("weight"), t.float("bias"), {
        dropout: { probability: 0.4, seed: 2, call: 10 },
      }),
  },
  {
    name: "x is its own branch, and used again",
    inputs: { x: normal([3, 5]), ...parameters },
    forward: (t) =>
      add(layerNorm(t.float("x"), t.float("x"), t.float("weight"), t.float("bias")), t.float("x")),
  },
  {
    name: "a constant row",
    zero: ["weight"],
    inputs: { x: filled([1, 5], 2), ...parameters },
    forward: (t) => layerNorm(t.float("x"), null, t.float("weight"), t.float("bias"), { eps: 1 }),
  },
];

export default { ops: [forward, backward], gradients } satisfies Family;
