import { add, mul } from "../../lib/ops/elementwise.js";
import { mean, sum } from "../../lib/ops/reduce.js";
import { grid, sumOf } from "../support/nd-array.js";
import { sizeOf } from "../../lib/tensor.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  floats,
  type GradientCase,
  normal,
  opCases,
  output,
  target,
  uniform,
} from "../support/op-case.js";
import { doubleReduction, reduction } from "../support/tolerance.js";

const shapes: Record<string, number[]> = {
  "sizes that divide no tile": [7, 33],
  "one of everything": [1],
  "a prime": [97],
  "several tasks": [3, 15001],
};

const reduceSum = opCases({
  op: "reduceSum",
  cases: Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [name, { shape, scale: [1, -2, 0, 0.5][i]! }]),
  ),
  args: ({ shape, scale }: { shape: number[]; scale: number }) => ({
    x: normal(shape, { mean: 1 }),
    out: output([1]),
    scale,
  }),
  tolerance: ({ shape }) => doubleReduction(sizeOf(shape)),
  oracle: ({ x, scale }) => ({ out: [scale * sumOf(x.size, (i) => x.flat(i))] }),
  bad: [
    badShape("out of two elements", { out: output([2]) }, '"out" has shape [2], expected [1]'),
    badValue("infinite scale", { scale: Infinity }, '"scale" is inf'),
  ],
});

const reduceRows = opCases({
  op: "reduceRows",
  cases: {
    "sizes that divide no tile": { rows: 33, n: 97, accumulate: false },
    "one of everything": { rows: 1, n: 1, accumulate: false },
    "one row": { rows: 1, n: 97, accumulate: true },
    "one column": { rows: 97, n: 1, accumulate: true },
    "several tasks": { rows: 401, n: 97, accumulate: true },
    "many rows": { rows: 1400, n: 41, accumulate: true },
  },
  args: ({ rows, n, accumulate }: { rows: number; n: number; accumulate: boolean }) => ({
    x: normal([rows, n]),
    out: target([n], accumulate),
    accumulate,
  }),
  tolerance: ({ rows }) => reduction(rows),
  oracle: ({ x, out, accumulate }) => ({
    out: grid(out.shape, (j) => sumOf(x.shape[0]!, (i) => x.at(i, j)) + (accumulate ? out.at(j) : 0)),
  }),
  bad: [
    badShape("x of one axis", { x: normal([97]) }, '"x" has shape [97], expected [num_rows, n]'),
    badShape("out of another width", { out: output([33]) }, '"out" has shape [33], expected [n=97]'),
  ],
});

const sumSquares = opCases({
  op: "sumSquares",
  cases: Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [name, { shape, accumulate: i % 2 === 1 }]),
  ),
  args: ({ shape, accumulate }: { shape: number[]; accumulate: boolean }) => ({
    x: normal(shape),
    out: accumulate ? uniform([1], 1, 2) : output([1]),
    accumulate,
  }),
  tolerance: ({ shape }) => doubleReduction(sizeOf(shape)),
  oracle: ({ x, out, accumulate }) => ({
    out: [sumOf(x.size, (i) => x.flat(i) ** 2) + (accumulate ? out.at(0) : 0)],
  }),
  bad: [badShape("out of two elements", { out: output([2]) }, '"out" has shape [2], expected [1]')],
});

const clipFactor = opCases({
  op: "clipFactor",
  cases: {
    "sizes that divide no tile": { squares: 9, maxNorm: 0.25 },
    "one of everything": { squares: 1, maxNorm: 1 },
    "no clipping needed": { squares: 0.01, maxNorm: 0.25 },
    off: { squares: 1e6, maxNorm: 0 },
    "zero gradient": { squares: 0, maxNorm: 0.25 },
    "infinite gradient": { squares: Infinity, maxNorm: 0.25 },
    "NaN gradient": { squares: NaN, maxNorm: 0.25 },
  },
  args: ({ squares, maxNorm }: { squares: number; maxNorm: number }) => ({
    sumSquares: floats([1], [squares]),
    norm: output([1]),
    factor: output([1]),
    maxNorm,
  }),
  tolerance: () => "elementwise",
  oracle: ({ sumSquares, maxNorm }) => {
    const norm = Math.sqrt(sumSquares.at(0));
    return { norm: [norm], factor: [maxNorm === 0 ? 1 : Math.min(1, maxNorm / (norm + 1e-6))] };
  },
  bad: [
    badValue("negative max_norm", { maxNorm: -1 }, '"max_norm" must be 0 (off) or positive'),
    badValue("NaN max_norm", { maxNorm: NaN }, '"max_norm" must be 0 (off) or positive'),
    badShape("factor of two elements", { factor: output([2]) }, '"factor" has shape [2], expected [1]'),
    badShape("norm of two elements", { norm: output([2]) }, '"norm" has shape [2], expected [1]'),
    badShape("sum_squares of two elements", { sumSquares: normal([2]) }, '"sum_squares" has shape [2]'),
  ],
});

const countNonFinite = opCases({
  op: "countNonFinite",
  cases: Object.fromEntries(
    Object.entries(shapes).map(([name, shape], i) => [name, { shape, every: [5, 1, 13, 7][i]! }]),
  ),
  args: ({ shape, every }: { shape: number[]; every: number }) => {
    const count = sizeOf(shape);
    const bad = [NaN, Infinity, -Infinity];
    return {
      x: floats(
        shape,
        Array.from({ length: count }, (_, i) => (i % every === 0 ? bad[i % 3]! : i % 2 ? 3e38 : -1e-40)),
      ),
      out: output([1], "i32"),
    };
  },
  tolerance: () => "exact",
  oracle: ({ x }) => ({ out: [sumOf(x.size, (i) => (Number.isFinite(x.flat(i)) ? 0 : 1))] }),
  bad: [
    badDType("a float count", { out: output([1]) }, "expected i32"),
    badShape("out of two elements", { out: output([2], "i32") }, '"out" has shape [2], expected [1]'),
  ],
});

const gradients: GradientCase[] = [
  { name: "sum", inputs: { x: normal([3, 5]) }, forward: (t) => sum(t.float("x"), -2) },
  { name: "mean", inputs: { x: normal([7]) }, forward: (t) => mean(t.float("x")) },
  {
    name: "sums of one tensor added",
    inputs: { x: normal([7]) },
    forward: (t) => add(sum(mul(t.float("x"), t.float("x"))), mean(t.float("x"))),
  },
];

export default {
  ops: [reduceSum, reduceRows, sumSquares, clipFactor, countNonFinite],
  gradients,
} satisfies Family;
