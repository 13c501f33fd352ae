import {
  type BadCall,
  badShape,
  badValue,
  type Family,
  floats,
  normal,
  opCases,
  optional,
  uniform,
} from "../support/op-case.js";

const sizes = { "sizes that divide no tile": [7, 33], "one of everything": [1], "several tasks": [40001] };
const [odd, one, large] = Object.values(sizes) as [number[], number[], number[]];

/** What every optimiser refuses. */
function refusals(state: string, stateName: string): BadCall[] {
  return [
    badShape(
      "grad of another size",
      { grad: normal([7, 32]) },
      '"grad" has shape [7, 32], but "param" has [7, 33]',
    ),
    badShape("state of another size", { [state]: normal([7, 32]) }, `"${stateName}" has shape [7, 32]`),
    badShape("scale of two elements", { gradScale: normal([2]) }, '"grad_scale" has shape [2], expected [1]'),
    badValue("NaN learning rate", { lr: NaN }, '"lr" is nan, expected a finite number'),
    badValue("infinite weight decay", { weightDecay: Infinity }, '"weight_decay" is inf'),
  ];
}

interface AdamSizes {
  shape: number[];
  clipped?: boolean;
  weightDecay?: number;
  decoupled?: boolean;
  step?: number;
  eps?: number;
}

const adam = opCases({
  op: "adam",
  cases: {
    "sizes that divide no tile": { shape: odd, step: 7 },
    "one of everything": { shape: one },
    "first step, clipped": { shape: [97], clipped: true },
    "L2 weight decay": { shape: [97], weightDecay: 0.1, step: 3 },
    "decoupled weight decay, clipped": {
      shape: [97],
      weightDecay: 0.1,
      decoupled: true,
      clipped: true,
      step: 30,
    },
    "a late step": { shape: [97], step: 1_000_000 },
    "no eps": { shape: [97], eps: 0 },
    "several tasks": { shape: large, clipped: true, step: 2 },
  },
  args: ({
    shape,
    clipped = false,
    weightDecay = 0,
    decoupled = false,
    step = 1,
    eps = 1e-8,
  }: AdamSizes) => ({
    param: normal(shape),
    grad: normal(shape),
    m: normal(shape, { std: 0.5 }),
    v: uniform(shape, 0.01, 1),
    gradScale: optional(clipped, floats([1], [0.25])),
    lr: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    eps,
    weightDecay,
    decoupled,
    step,
  }),
  tolerance: () => "elementwise",
  oracle: ({ param, grad, m, v, gradScale, lr, beta1, beta2, eps, weightDecay, decoupled, step }) => {
    const updated = param.map((theta, i) => {
      const g = grad.flat(i) * (gradScale?.at(0) ?? 1) + (decoupled ? 0 : weightDecay * theta);
      const newM = beta1 * m.flat(i) + (1 - beta1) * g;
      const newV = beta2 * v.flat(i) + (1 - beta2) * g * g;
      const decayed = decoupled ? theta - lr * weightDecay * theta : theta;
      const denominator = Math.sqrt(newV) / Math.sqrt(1 - beta2 ** step) + eps;
      return [decayed - ((lr / (1 - beta1 ** step)) * newM) / denominator, newM, newV] as const;
    });
    return { param: updated.map(([p]) => p), m: updated.map(([, x]) => x), v: updated.map(([, , x]) => x) };
  },
  bad: [
    ...refusals("m", "m"),
    badShape("v of another size", { v: normal([33]) }, '"v" has shape [33]'),
    badValue("beta1 = 1", { beta1: 1 }, '"beta1" is 1, expected 0 <= beta1 < 1'),
    badValue("beta2 < 0", { beta2: -0.1 }, '"beta2" is -0.1'),
    badValue("negative eps", { eps: -1e-8 }, '"eps" must not be negative'),
    badValue("step 0", { step: 0 }, '"step" is 0, expected 1 to'),
  ],
});

interface SgdSizes {
  shape: number[];
  momentum?: number;
  clipped?: boolean;
  weightDecay?: number;
  nesterov?: boolean;
}

const sgd = opCases({
  op: "sgd",
  cases: {
    "sizes that divide no tile": { shape: odd },
    "one of everything": { shape: one, weightDecay: 0.1 },
    momentum: { shape: [97], momentum: 0.9, clipped: true },
    nesterov: { shape: [97], momentum: 0.9, nesterov: true, weightDecay: 0.1 },
    "several tasks": { shape: large, momentum: 0.5 },
  },
  args: ({ shape, momentum = 0, clipped = false, weightDecay = 0, nesterov = false }: SgdSizes) => ({
    param: normal(shape),
    grad: normal(shape),
    momentumBuffer: optional(momentum !== 0, normal(shape)),
    gradScale: optional(clipped, floats([1], [0.25])),
    lr: 0.05,
    momentum,
    weightDecay,
    nesterov,
  }),
  tolerance: () => "elementwise",
  oracle: ({ param, grad, momentumBuffer, gradScale, lr, momentum, weightDecay, nesterov }) => {
    const updated = param.map((theta, i) => {
      const g = grad.flat(i) * (gradScale?.at(0) ?? 1) + weightDecay * theta;
      const buffer = momentumBuffer ? momentum * momentumBuffer.flat(i) + g : g;
      return [theta - lr * (nesterov ? g + momentum * buffer : buffer), buffer] as const;
    });
    return {
      param: updated.map(([p]) => p),
      ...(momentumBuffer && { momentumBuffer: updated.map(([, b]) => b) }),
    };
  },
  bad: [
    ...refusals("momentumBuffer", "momentum_buffer"),
    badValue("momentum without buffer", { momentum: 0.9 }, 'momentum needs "momentum_buffer"'),
    badValue("momentum = 1", { momentum: 1 }, '"momentum" is 1'),
  ],
});

const adagrad = opCases({
  op: "adagrad",
  cases: {
    "sizes that divide no tile": { shape: odd },
    "one of everything": { shape: one },
    "clipped, with weight decay": { shape: [97], clipped: true, weightDecay: 0.1 },
    "several tasks": { shape: large },
  },
  args: ({
    shape,
    clipped = false,
    weightDecay = 0,
  }: {
    shape: number[];
    clipped?: boolean;
    weightDecay?: number;
  }) => ({
    param: normal(shape),
    grad: normal(shape),
    sum: uniform(shape, 0, 2),
    gradScale: optional(clipped, floats([1], [0.25])),
    lr: 0.05,
    eps: 1e-10,
    weightDecay,
  }),
  tolerance: () => "elementwise",
  oracle: ({ param, grad, sum, gradScale, lr, eps, weightDecay }) => {
    const updated = param.map((theta, i) => {
      const g = grad.flat(i) * (gradScale?.at(0) ?? 1) + weightDecay * theta;
      const newSum = sum.flat(i) + g * g;
      return [theta - (lr * g) / (Math.sqrt(newSum) + eps), newSum] as const;
    });
    return { param: updated.map(([p]) => p), sum: updated.map(([, s]) => s) };
  },
  bad: [...refusals("sum", "sum"), badValue("negative eps", { eps: -1 }, '"eps" must not be negative')],
});

export default { ops: [adam, sgd, adagrad] } satisfies Family;
