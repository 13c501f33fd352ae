import type { DType } from "../../lib/dtype.js";
import type { BinaryKind } from "../../lib/native-ops.gen.js";
import { add, div, mul, scale, sub } from "../../lib/ops/elementwise.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  type GradientCase,
  normal,
  opCases,
  output,
  target,
  type Tensors,
  type TensorSpec,
  uniform,
} from "../support/op-case.js";
import { rounded } from "../support/half.js";
import { CaseRandom } from "../support/random.js";

const kinds = { add, sub, mul, div };
const compute: Record<BinaryKind, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
};

const binary = opCases({
  op: "binary",
  cases: {
    "sizes that divide no tile": { a: [7, 33], b: [33], kind: "add" },
    "one of everything": { a: [1], b: [1], kind: "sub" },
    "same shape": { a: [3, 97], b: [3, 97], kind: "mul" },
    "a scalar": { a: [3, 5, 7], b: [1], kind: "div" },
    "a matrix repeated": { a: [4, 3, 7], b: [3, 7], kind: "sub" },
    "a suffix of ones": { a: [5, 3, 1], b: [3, 1], kind: "mul" },
    "division by a row": { a: [9, 17], b: [17], kind: "div" },
    "several tasks": { a: [401, 101], b: [101], kind: "add" },
  },
  args: ({ a, b, kind }: { a: number[]; b: number[]; kind: BinaryKind }) => ({
    a: normal(a),
    b: uniform(b, 0.5, 2),
    out: output(a),
    kind,
  }),
  tolerance: () => "elementwise",
  oracle: ({ a, b, kind }) => ({ out: a.map((value, i) => compute[kind](value, b.flat(i % b.size))) }),
  inPlace: [["out", "a"]],
  bad: [
    badShape("b no suffix", { b: normal([7]) }, '"b" has shape [7], expected [7, 33] or a suffix of it'),
    badShape("b longer than a", { b: normal([2, 7, 33]) }, '"b" has shape [2, 7, 33]'),
    badShape("out of another size", { out: output([33]) }, '"out" has shape [33], but "a" has [7, 33]'),
  ],
});

const axpby = opCases({
  op: "axpby",
  cases: {
    "sizes that divide no tile": { shape: [7, 33], alpha: 1.5, beta: -0.5 },
    "one of everything": { shape: [1], alpha: 2, beta: 1 },
    "beta 0 does not read out": { shape: [97], alpha: -3, beta: 0 },
    "alpha 0": { shape: [97], alpha: 0, beta: 2 },
    "several tasks": { shape: [40001], alpha: 0.25, beta: 1 },
  },
  args: ({ shape, alpha, beta }: { shape: number[]; alpha: number; beta: number }) => ({
    x: normal(shape),
    out: target(shape, beta !== 0),
    alpha,
    beta,
  }),
  tolerance: () => "elementwise",
  oracle: ({ x, out, alpha, beta }) => ({
    out: x.map((value, i) => alpha * value + (beta === 0 ? 0 : beta * out.flat(i))),
  }),
  inPlace: [["out", "x"]],
  bad: [
    badValue("infinite alpha", { alpha: Infinity }, '"alpha" is inf, expected a finite number'),
    badValue("NaN beta", { beta: NaN }, '"beta" is nan'),
    badShape("sizes differ", { out: normal([8, 33]) }, '"out" has shape [8, 33], but "x" has [7, 33]'),
  ],
});

const fill = opCases({
  op: "fill",
  cases: {
    "sizes that divide no tile": { out: output([7, 33]), value: 0.1 },
    "one of everything": { out: output([1]), value: -0 },
    "i32 integers": { out: output([97], "i32"), value: -2147483648 },
    "f32 on every device": { out: output([33], "f32"), value: 1 / 3 },
    "f64 on every device": { out: output([33], "f64"), value: 1 / 3 },
    infinity: { out: output([33]), value: -Infinity },
    "not a number": { out: output([33]), value: NaN },
    "several tasks": { out: output([40001]), value: 3 },
  },
  args: ({ out, value }: { out: TensorSpec; value: number }) => ({ out, value }),
  tolerance: () => "exact",
  oracle: ({ out, value }) => ({ out: out.map(() => value) }),
  bad: [
    badValue(
      "a fraction in i32",
      { out: output([3], "i32"), value: 0.5 },
      '"value" must be an integer for an i32 tensor',
    ),
    badValue("above i32", { out: output([3], "i32"), value: 2 ** 31 }, '"value" is 2.14748e+09'),
    badValue("NaN in i32", { out: output([3], "i32"), value: NaN }, '"value" is nan'),
    badDType("bf16", { out: output([3], "bf16") }, '"out" is bf16, expected f32 or f64'),
  ],
});

/** Ties, near ties, subnormals, overflow and NaN of the half formats, then numbers of every size. */
function castValues(count: number): number[] {
  const random = new CaseRandom("cast");
  const edge = [
    0,
    -0,
    1,
    -1.5,
    65504,
    65519.99,
    65520,
    -1e6,
    6e-8,
    3e-8,
    2.98e-8,
    1e-9,
    1 + 2 ** -8,
    1 + 3 * 2 ** -8,
    1 + 2 ** -8 + 2 ** -40,
    1 + 2 ** -11 - 2 ** -45,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    2 ** 31,
    -(2 ** 31),
    2 ** 31 - 200,
    1e20,
    -1e20,
    0.99,
    -0.99,
    Infinity,
    -Infinity,
    NaN,
  ];
  const rest = Array.from(
    { length: Math.max(count - edge.length, 0) },
    () => (random.next() - 0.5) * 2 ** (random.below(70) - 40),
  );
  return [...edge, ...rest].slice(0, count);
}

const dtypes: DType[] = ["f32", "f64", "bf16", "f16", "i32"];
const cast = opCases({
  op: "cast",
  cases: {
    "sizes that divide no tile": { shape: [7, 33], from: "f32", to: "bf16" },
    "one of everything": { shape: [1], from: "f32", to: "f16" },
    ...Object.fromEntries(
      dtypes.flatMap((from) => dtypes.map((to) => [`${from} to ${to}`, { shape: [97], from, to }])),
    ),
    "several tasks": { shape: [40001], from: "f32", to: "bf16" },
  },
  args: ({ shape, from, to }: { shape: number[]; from: DType; to: DType }) => ({
    x: {
      dtype: from,
      shape,
      values: () => castValues(shape.reduce((a, b) => a * b)),
    },
    y: output(shape, to),
  }),
  tolerance: () => "exact",
  oracle: ({ x, y }) => ({ y: x.map((value) => rounded(value, y.dtype)) }),
  bad: [
    badShape("sizes differ", { y: output([7, 32], "bf16") }, '"y" has shape [7, 32], but "x" has [7, 33]'),
  ],
});

const gradients: GradientCase[] = [
  ...Object.entries(kinds).flatMap(([name, op]) => [
    {
      name: `${name}, same shape`,
      inputs: { a: normal([3, 5]), b: uniform([3, 5], 0.5, 2) },
      forward: (t: Tensors) => op(t.float("a"), t.float("b")),
    },
    {
      name: `${name}, b repeated`,
      inputs: { a: normal([4, 3, 5]), b: uniform([3, 5], 0.5, 2) },
      forward: (t: Tensors) => op(t.float("a"), t.float("b")),
    },
    {
      name: `${name}, scalar b`,
      inputs: { a: normal([3, 5]), b: uniform([1], 0.5, 2) },
      forward: (t: Tensors) => op(t.float("a"), t.float("b")),
    },
    {
      name: `${name} of a tensor with itself`,
      inputs: { a: uniform([3, 5], 0.5, 2) },
      zero: name === "sub" || name === "div" ? ["a"] : [],
      forward: (t: Tensors) => op(t.float("a"), t.float("a")),
    },
    {
      name: `${name}, only b trained`,
      inputs: { b: uniform([5], 0.5, 2) },
      constants: { a: normal([3, 5]) },
      forward: (t: Tensors) => op(t.float("a"), t.float("b")),
    },
  ]),
  {
    name: "scale",
    inputs: { x: normal([3, 5]) },
    forward: (t) => scale(t.float("x"), -2.5),
  },
  {
    name: "an activation used three times",
    inputs: { x: normal([5]) },
    forward: (t) => {
      const y = scale(t.float("x"), 2);
      return add(mul(y, y), sub(y, t.float("x")));
    },
  },
];

export default { ops: [binary, axpby, fill, cast], gradients } satisfies Family;
