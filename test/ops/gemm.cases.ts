import { linear, matmul } from "../../lib/ops/gemm.js";
import type { Activation } from "../../lib/ops/activation.js";
import { activate } from "../support/activations.js";
import { grid, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  type Family,
  type GradientCase,
  normal,
  opCases,
  optional,
  target,
  type Tensors,
} from "../support/op-case.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  m: number;
  k: number;
  n: number;
  transposeA?: boolean;
  transposeB?: boolean;
  bias?: boolean;
  activation?: Activation;
  accumulate?: boolean;
}

const gemm = opCases({
  op: "gemm",
  cases: {
    "sizes that divide no tile": { m: 7, k: 33, n: 97 },
    "one of everything": { m: 1, k: 1, n: 1 },
    "one row": { m: 1, k: 97, n: 33, bias: true },
    "one column": { m: 97, k: 7, n: 1, transposeA: true },
    "k = 1": { m: 33, k: 1, n: 65, transposeB: true },
    "transposed a": { m: 33, k: 7, n: 97, transposeA: true },
    "transposed b": { m: 33, k: 97, n: 7, transposeB: true },
    "both transposed": { m: 17, k: 33, n: 65, transposeA: true, transposeB: true },
    "whole tiles": { m: 64, k: 64, n: 64, transposeB: true },
    accumulating: { m: 33, k: 65, n: 17, accumulate: true },
    "accumulating, transposed": { m: 17, k: 33, n: 65, accumulate: true, transposeA: true, transposeB: true },
    "bias and relu": { m: 9, k: 31, n: 63, bias: true, activation: "relu", transposeB: true },
    "bias and gelu": { m: 9, k: 31, n: 63, bias: true, activation: "gelu" },
    silu: { m: 5, k: 8, n: 19, activation: "silu" },
    "bias and tanh": { m: 5, k: 8, n: 19, bias: true, activation: "tanh", transposeA: true },
    "bias and sigmoid": { m: 5, k: 8, n: 19, bias: true, activation: "sigmoid" },
    "long sum": { m: 3, k: 1500, n: 5, transposeB: true },
    "long sum over rows of a": { m: 5, k: 2100, n: 7, accumulate: true, transposeA: true },
    "long sum, activated": { m: 5, k: 2100, n: 7, bias: true, activation: "relu", transposeA: true },
    "one task": { m: 150, k: 70, n: 130, bias: true, transposeB: true },
    "several tasks in several pieces of k": { m: 300, k: 601, n: 70, bias: true, transposeB: true },
    "several columns of tasks": { m: 300, k: 33, n: 600, transposeA: true },
    "wide tiles": { m: 300, k: 37, n: 300, bias: true, transposeB: true },
  },
  args: ({
    m,
    k,
    n,
    transposeA = false,
    transposeB = false,
    bias,
    activation = "none",
    accumulate = false,
  }: Sizes) => ({
    a: normal(transposeA ? [k, m] : [m, k]),
    b: normal(transposeB ? [n, k] : [k, n]),
    bias: optional(bias === true, normal([n])),
    c: target([m, n], accumulate),
    transposeA,
    transposeB,
    activation,
    accumulate,
  }),
  tolerance: ({ k }) => reduction(k),
  oracle: ({ a, b, bias, c, transposeA, transposeB, activation, accumulate }) => ({
    c: grid(c.shape, (i, j) => {
      const product = sumOf(a.shape[transposeA ? 0 : 1]!, (p) => {
        const left = transposeA ? a.at(p, i) : a.at(i, p);
        return left * (transposeB ? b.at(j, p) : b.at(p, j));
      });
      return accumulate ? c.at(i, j) + product : activate(activation, product + (bias?.at(j) ?? 0));
    }),
  }),
  bad: [
    badShape("inner sizes differ", { b: normal([34, 97]) }, '"b" has shape [34, 97], expected [k=33, n=97]'),
    badShape("transposed by mistake", { transposeB: true }, '"b" has shape [33, 97], expected [n=33, k=33]'),
    badShape("a is a vector", { a: normal([7 * 33]) }, '"a" has shape [231], expected [m, k]'),
    badShape("a has three axes", { a: normal([7, 11, 3]) }, '"a" has shape [7, 11, 3]'),
    badShape("bias of another width", { bias: normal([96]) }, '"bias" has shape [96], expected [n=97]'),
    badShape("c of another shape", { c: normal([97, 7]) }, '"c" has shape [97, 7], expected [m=7, n=97]'),
    badValue(
      "accumulate with bias",
      { accumulate: true, bias: normal([97]) },
      '"accumulate" excludes "bias" and "activation"',
    ),
    badValue("accumulate with activation", { accumulate: true, activation: "relu" }, '"accumulate" excludes'),
  ],
});

const gradients: GradientCase[] = [
  ...[false, true].flatMap((transposeA) =>
    [false, true].map((transposeB) => ({
      name: `matmul, transposeA ${transposeA}, transposeB ${transposeB}`,
      inputs: { a: normal(transposeA ? [4, 3] : [3, 4]), b: normal(transposeB ? [5, 4] : [4, 5]) },
      forward: (t: Tensors) => matmul(t.float("a"), t.float("b"), { transposeA, transposeB }),
    })),
  ),
  {
    name: "matmul of a tensor with itself",
    inputs: { a: normal([4, 4]) },
    forward: (t) => matmul(t.float("a"), t.float("a")),
  },
  {
    name: "linear over two leading axes",
    inputs: { x: normal([2, 3, 4]), weight: normal([5, 4]), bias: normal([5]) },
    forward: (t) => linear(t.float("x"), t.float("weight"), t.float("bias")),
  },
  {
    name: "linear of stacked parts",
    inputs: { x: normal([2, 3, 4]), more: normal([1, 3, 4]), weight: normal([5, 4]), bias: normal([5]) },
    forward: (t) => linear([t.float("x"), t.float("more")], t.float("weight"), t.float("bias"), "relu"),
  },
  {
    name: "linear without bias",
    inputs: { x: normal([3, 4]), weight: normal([5, 4]) },
    forward: (t) => linear(t.float("x"), t.float("weight")),
  },
  {
    name: "linear with relu",
    inputs: { x: normal([6, 4]), weight: normal([5, 4]), bias: normal([5]) },
    forward: (t) => linear(t.float("x"), t.float("weight"), t.float("bias"), "relu"),
  },
  {
    name: "linear, its parameters used twice",
    inputs: { x: normal([3, 4]), weight: normal([4, 4]), bias: normal([4]) },
    forward: (t) => {
      const once = linear(t.float("x"), t.float("weight"), t.float("bias"));
      return linear(once, t.float("weight"), t.float("bias"));
    },
  },
  {
    name: "linear, only the bias trained",
    inputs: { bias: normal([5]) },
    constants: { x: normal([3, 4]), weight: normal([5, 4]) },
    forward: (t) => linear(t.float("x"), t.float("weight"), t.float("bias")),
  },
];

export default { ops: [gemm], gradients } satisfies Family;
