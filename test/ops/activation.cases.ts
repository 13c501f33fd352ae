import { activation, type Activation, gelu, relu } from "../../lib/ops/activation.js";
import { mul } from "../../lib/ops/elementwise.js";
import { activate, slope } from "../support/activations.js";
import {
  badShape,
  badValue,
  type Family,
  floats,
  type GradientCase,
  normal,
  opCases,
  output,
  type Tensors,
  type TensorSpec,
} from "../support/op-case.js";

interface Sizes {
  x: TensorSpec;
  kind: Activation;
}

const kinds = ["none", "relu", "gelu", "silu", "tanh", "sigmoid"] as const;
/** Both tails, both zeros, and what overflows a naive formula. */
const special = floats([14], [0, -0, 1e-30, -1e-30, 1e-5, 0.5, -0.5, 3, -3, 9, -9, 30, -30, 88]);

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { x: normal([7, 33], { std: 2 }), kind: "gelu" },
  "one of everything": { x: normal([1]), kind: "silu" },
  "several tasks": { x: normal([40001]), kind: "tanh" },
  "rank 6": { x: normal([2, 1, 3, 1, 2, 5]), kind: "sigmoid" },
  ...Object.fromEntries(kinds.map((kind) => [`${kind} of 97`, { x: normal([97], { std: 3 }), kind }])),
  ...Object.fromEntries(kinds.map((kind) => [`${kind} of special values`, { x: special, kind }])),
};

const forward = opCases({
  op: "activation",
  cases,
  args: ({ x, kind }: Sizes) => ({ x, y: output(x.shape), kind }),
  tolerance: () => "elementwise",
  oracle: ({ x, kind }) => ({ y: x.map((value) => activate(kind, value)) }),
  inPlace: [["y", "x"]],
  bad: [
    badShape(
      "sizes differ",
      { y: output([7, 32]) },
      '"y" has shape [7, 32], but "x" has [7, 33]: the element counts differ',
    ),
    badValue(
      "unknown kind",
      { kind: "swish" },
      '"kind" is "swish", expected one of none, relu, gelu, silu, tanh, sigmoid',
    ),
  ],
});

const backward = opCases({
  op: "activationBackward",
  cases,
  args: ({ x, kind }: Sizes) => ({ dY: normal(x.shape), x, dX: output(x.shape), kind }),
  tolerance: () => "elementwise",
  oracle: ({ dY, x, kind }) => ({ dX: x.map((value, i) => dY.flat(i) * slope(kind, value)) }),
  inPlace: [["dX", "dY"]],
  bad: [
    badShape("d_y of another size", { dY: normal([7, 32]) }, '"d_y" has shape [7, 32], but "x" has [7, 33]'),
    badShape("d_x of another size", { dX: output([33]) }, '"d_x" has shape [33]'),
  ],
});

const gradients: GradientCase[] = [
  ...kinds.map((kind) => ({
    name: kind,
    inputs: { x: normal([3, 7]) },
    forward: (t: Tensors) => activation(t.float("x"), kind),
  })),
  {
    name: "relu and gelu of one tensor",
    inputs: { x: normal([9]) },
    forward: (t) => mul(relu(t.float("x")), gelu(t.float("x"))),
  },
];

export default { ops: [forward, backward], gradients } satisfies Family;
