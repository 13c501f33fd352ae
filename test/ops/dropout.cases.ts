import { add } from "../../lib/ops/elementwise.js";
import { dropout } from "../../lib/ops/dropout.js";
import {
  badShape,
  badValue,
  type Family,
  type GradientCase,
  normal,
  opCases,
  optional,
  output,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";

interface Sizes {
  shape: readonly number[];
  dropout: number;
  residual?: boolean;
  seed?: number;
  call?: number;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { shape: [7, 33], dropout: 0.25, residual: true },
  "one of everything": { shape: [1], dropout: 0.5 },
  "no dropout": { shape: [97], dropout: 0 },
  "no dropout, residual": { shape: [97], dropout: 0, residual: true },
  "nearly all dropped": { shape: [333], dropout: 0.999 },
  "a probability below 2^-33": { shape: [33], dropout: 1e-11 },
  "three words": { shape: [3], dropout: 0.5 },
  "five words": { shape: [5], dropout: 0.5 },
  "large seed and call": { shape: [97], dropout: 0.5, seed: 2 ** 53 - 1, call: 2 ** 40 + 3 },
  "several tasks": { shape: [40001], dropout: 0.1, residual: true },
};

const op = opCases({
  op: "dropout",
  cases,
  args: ({ shape, dropout, residual, seed = 7, call = 3 }: Sizes) => ({
    x: normal(shape),
    residual: optional(residual === true, normal(shape)),
    y: output(shape),
    dropout,
    seed,
    call,
  }),
  tolerance: () => "elementwise",
  oracle: ({ x, residual, dropout, seed, call }) => {
    const factor = dropoutFactors(dropout, { seed, call }, x.size);
    return { y: x.map((value, i) => value * factor[i]! + (residual?.flat(i) ?? 0)) };
  },
  inPlace: [["y", "x"]],
  bad: [
    badValue("p = 1", { dropout: 1 }, '"dropout" is 1, expected 0 <= dropout < 1'),
    badValue("p < 0", { dropout: -0.1 }, '"dropout" is -0.1'),
    badValue("p NaN", { dropout: NaN }, '"dropout" is nan'),
    badValue("negative seed", { seed: -1 }, '"seed" is -1'),
    badValue("fractional call", { call: 0.5 }, '"call" must be an integer'),
    badValue("seed above 2^53", { seed: 2 ** 54 }, '"seed" must be an integer'),
    badShape("residual of another size", { residual: normal([33]) }, '"residual" has shape [33]'),
    badShape("y of another size", { y: output([33]) }, '"y" has shape [33]'),
  ],
});

const gradients: GradientCase[] = [
  {
    name: "dropout",
    inputs: { x: normal([3, 7]) },
    forward: (t) => dropout(t.float("x"), { probability: 0.3, seed: 5, call: 1 }),
  },
  {
    name: "dropout with a residual",
    inputs: { x: normal([3, 7]), residual: normal([3, 7]) },
    forward: (t) => dropout(t.float("x"), { probability: 0.3, seed: 5, call: 2 }, t.float("residual")),
  },
  {
    name: "two masks of one tensor",
    inputs: { x: normal([11]) },
    forward: (t) =>
      add(
        dropout(t.float("x"), { probability: 0.5, seed: 5, call: 3 }),
        dropout(t.float("x"), { probability: 0.5, seed: 5, call: 4 }, t.float("x")),
      ),
  },
];

export default { ops: [op], gradients } satisfies Family;
