// Long because three ops and their composition share one set of routings.
import type { Activation, RowScale } from "../../lib/native-ops.gen.js";
import { dispatch } from "../../lib/ops/dispatch.js";
import { mixExperts } from "../../lib/ops/grouped-gemm.js";
import { balanceLoss, routerTopK } from "../../lib/ops/router.js";
import { add, scale } from "../../lib/ops/elementwise.js";
import { sum } from "../../lib/ops/reduce.js";
import { activate, slope } from "../support/activations.js";
import { grid, type NdArray, range, sumOf } from "../support/nd-array.js";
import {
  type BadCall,
  drawn,
  type Family,
  floats,
  type GradientCase,
  int32,
  normal,
  opCases,
  optional,
  output,
  target,
  type Tensors,
  type TensorSpec,
  uniform,
  badDType,
  badShape,
  badValue,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";
import { type Routing, routing, type Spread } from "../support/routing.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  tokens: number;
  experts: number;
  topK: number;
  /** Width of the rows that come in, and of those that go out. */
  k: number;
  n: number;
  spread?: Spread;
  gather?: boolean;
  transposeWeight?: boolean;
  bias?: boolean;
  scale?: RowScale;
  activation?: Activation;
  pre?: boolean;
  dropout?: number;
  accumulate?: boolean;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { tokens: 33, experts: 7, topK: 2, k: 17, n: 31, gather: true, bias: true },
  "one of everything": { tokens: 1, experts: 1, topK: 1, k: 1, n: 1 },
  "one token": {
    tokens: 1,
    experts: 9,
    topK: 3,
    k: 33,
    n: 7,
    gather: true,
    bias: true,
    scale: "output",
    activation: "relu",
  },
  "one expert": { tokens: 33, experts: 1, topK: 1, k: 9, n: 33, bias: true, scale: "bias", accumulate: true },
  "k = E": {
    tokens: 9,
    experts: 5,
    topK: 5,
    k: 7,
    n: 17,
    gather: true,
    transposeWeight: true,
    accumulate: true,
  },
  "an expert without tokens": {
    tokens: 9,
    experts: 4,
    topK: 2,
    k: 7,
    n: 9,
    spread: "one empty",
    bias: true,
    scale: "bias",
  },
  "all tokens to one expert": {
    tokens: 33,
    experts: 4,
    topK: 1,
    k: 7,
    n: 9,
    spread: "all to one",
    gather: true,
    scale: "output",
    bias: true,
    activation: "gelu",
    pre: true,
    accumulate: true,
  },
  "dropped pairs": {
    tokens: 33,
    experts: 4,
    topK: 2,
    k: 9,
    n: 17,
    spread: "dropped",
    gather: true,
    bias: true,
    scale: "output",
    activation: "relu",
    dropout: 0.25,
  },
  "dropped pairs, rows in expert order": {
    tokens: 33,
    experts: 4,
    topK: 2,
    k: 9,
    n: 17,
    spread: "dropped",
    transposeWeight: true,
    accumulate: true,
  },
  "silu with dropout": {
    tokens: 9,
    experts: 3,
    topK: 2,
    k: 7,
    n: 19,
    gather: true,
    bias: true,
    scale: "output",
    activation: "silu",
    pre: true,
    dropout: 0.5,
  },
  tanh: {
    tokens: 9,
    experts: 3,
    topK: 2,
    k: 7,
    n: 19,
    gather: true,
    bias: true,
    activation: "tanh",
    pre: true,
    scale: "output",
  },
  sigmoid: { tokens: 9, experts: 3, topK: 1, k: 7, n: 19, bias: true, activation: "sigmoid", pre: true },
  "no activation, dropout": {
    tokens: 9,
    experts: 3,
    topK: 2,
    k: 7,
    n: 19,
    scale: "output",
    dropout: 0.3,
    pre: true,
  },
  "several tasks": {
    tokens: 97,
    experts: 5,
    topK: 2,
    k: 33,
    n: 65,
    gather: true,
    bias: true,
    scale: "output",
    activation: "relu",
  },
};

const seeds = { seed: 13, call: 6 };

const routingOf = ({ tokens, experts, topK, spread }: Sizes): Routing =>
  routing(tokens, experts, topK, spread);

const routingArgs = (sizes: Sizes) => {
  const { permutation, expertOffsets } = routingOf(sizes);
  return {
    permutation: int32([permutation.length], permutation),
    expertOffsets: int32([expertOffsets.length], expertOffsets),
  };
};

/** Rows in expert order; those past the last routed one are NaN, for they are never read. */
function routedRows(sizes: Sizes, width: number, values?: NdArray): TensorSpec {
  const { numRows } = routingOf(sizes);
  const shape = [sizes.tokens * sizes.topK, width];
  const source = values ?? drawn(normal(shape));
  return floats(
    shape,
    source.map((value, i) => (i < numRows * width ? value : NaN)),
  );
}

/** Where each routed row comes from. */
function rowsOf(permutation: NdArray, expertOffsets: NdArray) {
  return range(expertOffsets.at(expertOffsets.size - 1)).map((row) => ({
    row,
    flat: permutation.at(row),
    expert: range(expertOffsets.size - 1).findIndex((e) => row < expertOffsets.at(e + 1)),
  }));
}

const badRouting: BadCall[] = [
  badShape(
    "permutation of two axes",
    { permutation: int32([33, 2], range(66)) },
    '"permutation" has shape [33, 2], expected [num_routed]',
  ),
  badDType("float permutation", { permutation: normal([66]) }, '"permutation" is'),
  badShape(
    "offsets for other experts",
    { expertOffsets: int32([7], range(7)) },
    '"expert_offsets" has shape [7], expected [num_experts+1=8]',
  ),
  badValue("top_k 0", { topK: 0 }, '"top_k" is 0, expected 1 to 66'),
  badValue(
    "rows no multiple of top_k",
    { topK: 4 },
    '"permutation" has 66 rows, expected a multiple of top_k=4',
  ),
];

const badRoutingContent = (op: string): BadCall[] => {
  const { permutation, expertOffsets } = routingOf(cases["sizes that divide no tile"]!);
  const permutationWith = (value: number): TensorSpec =>
    int32(
      [66],
      permutation.map((f, row) => (row === 5 ? value : f)),
    );
  const offsets = (change: (offset: number, e: number) => number): TensorSpec =>
    int32([8], expertOffsets.map(change));
  return [
    badValue("flat index past the end", { permutation: permutationWith(66) }, `${op}: permutation[5] is 66`),
    badValue(
      "negative flat index among the routed rows",
      { permutation: permutationWith(-1) },
      `${op}: permutation[5] is -1`,
    ),
    badValue(
      "huge flat index",
      { permutation: permutationWith(2147483647) },
      `${op}: permutation[5] is 2147483647`,
    ),
    badValue(
      "offsets that do not start at 0",
      { expertOffsets: offsets((o, e) => (e === 0 ? 1 : o)) },
      `${op}: expert_offsets[0] is 1`,
    ),
    badValue(
      "offsets past the rows",
      { expertOffsets: offsets((o, e) => (e === 7 ? 67 : o)) },
      `${op}: expert_offsets[7] is 67`,
    ),
    badValue(
      "offsets that fall",
      { expertOffsets: offsets((o, e) => (e === 3 ? 66 : o)) },
      `${op}: expert_offsets[`,
    ),
    badValue(
      "negative offsets",
      { expertOffsets: offsets((o, e) => (e === 2 ? -9 : o)) },
      `${op}: expert_offsets[2] is -9`,
    ),
  ];
};

const forward = opCases({
  op: "groupedGemm",
  cases,
  args: (sizes: Sizes) => {
    const { tokens, experts, topK, k, n, gather = false, transposeWeight = false, bias = false } = sizes;
    const { scale = "none", activation = "none", pre = false, dropout = 0 } = sizes;
    const numRouted = tokens * topK;
    return {
      a: gather ? normal([tokens, k]) : routedRows(sizes, k),
      weight: normal(transposeWeight ? [experts, k, n] : [experts, n, k], { std: k ** -0.5 }),
      bias: optional(bias, normal([experts, n])),
      rowScale: optional(scale !== "none", uniform([numRouted], 0, 1)),
      ...routingArgs(sizes),
      out: output([numRouted, n]),
      preActivation: optional(pre, output([numRouted, n])),
      topK,
      gather,
      transposeWeight,
      scale,
      activation,
      dropout,
      ...seeds,
    };
  },
  tolerance: ({ k }) => reduction(k),
  oracle: ({
    a,
    weight,
    bias,
    rowScale,
    permutation,
    expertOffsets,
    out,
    preActivation,
    topK,
    gather,
    transposeWeight,
    scale,
    activation,
    dropout,
    seed,
    call,
  }) => {
    const n = out.shape[1]!;
    const factors = dropoutFactors(dropout, { seed, call }, out.size);
    const z = out.map<number | undefined>(() => undefined);
    const y = [...z];
    for (const { row, flat, expert } of rowsOf(permutation, expertOffsets)) {
      const source = gather ? Math.floor(flat / topK) : row;
      const s = rowScale?.at(flat) ?? 1;
      for (const j of range(n)) {
        const product = sumOf(
          a.shape[1]!,
          (i) => a.at(source, i) * (transposeWeight ? weight.at(expert, i, j) : weight.at(expert, j, i)),
        );
        const biasTerm = (bias?.at(expert, j) ?? 0) * (scale === "bias" ? s : 1);
        z[row * n + j] = product + biasTerm;
        const activated = activate(activation, product + biasTerm) * factors[flat * n + j]!;
        y[row * n + j] = scale === "output" ? s * activated : activated;
      }
    }
    return { out: y, ...(preActivation && { preActivation: z }) };
  },
  bad: [
    ...badRouting,
    badShape(
      "weight for another width",
      { weight: normal([7, 31, 16]) },
      '"a" has shape [33, 17], expected [num_rows=33, k=16]',
    ),
    badShape(
      "weight of two axes",
      { weight: normal([31, 17]) },
      '"weight" has shape [31, 17], expected [num_experts, n, k]',
    ),
    badShape(
      "rows of all slots when gathering",
      { a: normal([66, 17]) },
      '"a" has shape [66, 17], expected [num_rows=33, k=17]',
    ),
    badShape("bias for other experts", { bias: normal([6, 31]) }, '"bias" has shape [6, 31]'),
    badShape(
      "out of another width",
      { out: output([66, 30]) },
      '"out" has shape [66, 30], expected [num_routed=66, n=31]',
    ),
    badShape(
      "pre_activation of another shape",
      { preActivation: output([66, 30]) },
      '"pre_activation" has shape [66, 30]',
    ),
    badValue("scale without row_scale", { scale: "output" }, '"row_scale" and "scale" go together'),
    badValue("row_scale without scale", { rowScale: normal([66]) }, '"row_scale" and "scale" go together'),
    badShape(
      "row_scale per token",
      { rowScale: normal([33]), scale: "output" },
      '"row_scale" has shape [33], expected [num_routed=66]',
    ),
    badValue(
      "scaled bias without bias",
      { bias: null, rowScale: normal([66]), scale: "bias" },
      'scale "bias" needs a bias',
    ),
    badValue(
      "scaled bias with activation",
      { rowScale: normal([66]), scale: "bias", activation: "relu" },
      'scale "bias" needs a bias and excludes activation and dropout',
    ),
    badValue("dropout 1", { dropout: 1 }, '"dropout" is 1'),
  ],
  badContent: badRoutingContent("grouped_gemm"),
});

const dgrad = opCases({
  op: "groupedGemmDgrad",
  cases,
  args: (sizes: Sizes) => {
    const {
      tokens,
      experts,
      topK,
      k: dModel,
      n: ffn,
      bias = false,
      activation = "none",
      pre = false,
      dropout = 0,
    } = sizes;
    const numRouted = tokens * topK;
    const { permutation } = routingOf(sizes);
    const s = drawn(uniform([numRouted], 0.1, 1));
    const z = drawn(normal([numRouted, ffn]));
    const factors = dropoutFactors(dropout, seeds, numRouted * ffn);
    // h as forward stores it, from z; a pair of weight 0 is among them.
    const weightOf = (flat: number): number => (flat === 0 ? 0 : s.at(flat));
    const h = new Float64Array(numRouted * ffn);
    permutation.forEach((flat, row) => {
      for (let j = 0; flat >= 0 && j < ffn; j++) {
        h[row * ffn + j] = Math.fround(
          weightOf(flat) * activate(activation, z.at(row, j)) * factors[flat * ffn + j]!,
        );
      }
    });
    return {
      dOut: normal([tokens, dModel]),
      weight: normal([experts, dModel, ffn], { std: dModel ** -0.5 }),
      bias: optional(bias, normal([experts, dModel])),
      rowScale: floats([numRouted], range(numRouted).map(weightOf)),
      hidden: routedRows(sizes, ffn, drawn(floats([numRouted, ffn], h))),
      preActivation: optional(pre, routedRows(sizes, ffn, z)),
      ...routingArgs(sizes),
      dHidden: output([numRouted, ffn]),
      dRowScale: output([numRouted]),
      topK,
      activation,
      dropout,
      ...seeds,
    };
  },
  tolerance: ({ k, n }) => reduction(k + n),
  oracle: ({
    dOut,
    weight,
    bias,
    rowScale,
    hidden,
    preActivation,
    permutation,
    expertOffsets,
    dHidden,
    dRowScale,
    topK,
    activation,
    dropout,
    seed,
    call,
  }) => {
    const [, dModel, ffn] = weight.shape as [number, number, number];
    const factors = dropoutFactors(dropout, { seed, call }, dHidden.size);
    const dZ = dHidden.map<number | undefined>(() => undefined);
    const dS = dRowScale.map(() => 0);
    for (const { row, flat, expert } of rowsOf(permutation, expertOffsets)) {
      const token = Math.floor(flat / topK);
      const s = rowScale.at(flat);
      if (bias) dS[flat] = sumOf(dModel, (i) => dOut.at(token, i) * bias.at(expert, i));
      for (const j of range(ffn)) {
        const dH = sumOf(dModel, (i) => dOut.at(token, i) * weight.at(expert, i, j));
        // relu without z: its slope and the mask both show in h.
        const slopeAt = preActivation
          ? slope(activation, preActivation.at(row, j))
          : activation === "relu"
            ? hidden.at(row, j) > 0
              ? 1
              : 0
            : 1;
        dZ[row * ffn + j] = s * dH * factors[flat * ffn + j]! * slopeAt;
        if (s !== 0) dS[flat]! += (dH * hidden.at(row, j)) / s;
      }
    }
    return { dHidden: dZ, dRowScale: dS };
  },
  bad: [
    ...badRouting,
    {
      name: "gelu without pre_activation",
      change: { activation: "gelu" },
      error: "ValueError",
      says: 'this activation\'s gradient needs "pre_activation"',
    },
    badShape(
      "d_out per pair",
      { dOut: normal([66, 17]) },
      '"d_out" has shape [66, 17], expected [num_tokens=33, d_model=17]',
    ),
    badShape(
      "weight of two axes",
      { weight: normal([17, 31]) },
      '"weight" has shape [17, 31], expected [num_experts, d_model, ffn]',
    ),
    badShape(
      "hidden of another width",
      { hidden: normal([66, 30]) },
      '"hidden" has shape [66, 30], expected [num_routed=66, ffn=31]',
    ),
    badShape("bias for other experts", { bias: normal([6, 17]) }, '"bias" has shape [6, 17]'),
    badShape("row_scale per token", { rowScale: normal([33]) }, '"row_scale" has shape [33]'),
    badShape(
      "pre_activation of another shape",
      { preActivation: normal([66, 30]) },
      '"pre_activation" has shape [66, 30]',
    ),
    badShape("d_hidden of another shape", { dHidden: output([66, 30]) }, '"d_hidden" has shape [66, 30]'),
    badShape("d_row_scale per token", { dRowScale: output([33]) }, '"d_row_scale" has shape [33]'),
    badValue("negative dropout", { dropout: -1 }, '"dropout" is -1'),
  ],
  badContent: badRoutingContent("grouped_gemm_dgrad"),
});

const wgrad = opCases({
  op: "groupedGemmWgrad",
  cases: {
    ...cases,
    "both gathered": {
      tokens: 17,
      experts: 4,
      topK: 2,
      k: 9,
      n: 33,
      gather: true,
      transposeWeight: true,
      bias: true,
      scale: "output",
    },
    "an expert without tokens, accumulating": {
      tokens: 9,
      experts: 4,
      topK: 2,
      k: 7,
      n: 9,
      spread: "one empty",
      bias: true,
      accumulate: true,
    },
  },
  // transposeWeight stands for gather_b here: each case of the forward op has one meaning for this one too.
  args: (sizes: Sizes) => {
    const {
      tokens,
      experts,
      topK,
      k: m,
      n,
      gather = false,
      transposeWeight: gatherB = false,
      bias = false,
      scale = "none",
      accumulate = false,
    } = sizes;
    const rows = (gathered: boolean, width: number): TensorSpec =>
      gathered ? normal([tokens, width]) : routedRows(sizes, width);
    return {
      a: rows(gather, m),
      b: rows(gatherB, n),
      rowScale: optional(bias && scale !== "none", uniform([tokens * topK], 0, 1)),
      ...routingArgs(sizes),
      dWeight: target([experts, m, n], accumulate),
      dBias: optional(bias, target([experts, m], accumulate)),
      topK,
      gatherA: gather,
      gatherB,
      accumulate,
    };
  },
  tolerance: ({ tokens, topK }) => reduction(tokens * topK),
  oracle: ({
    a,
    b,
    rowScale,
    permutation,
    expertOffsets,
    dWeight,
    dBias,
    topK,
    gatherA,
    gatherB,
    accumulate,
  }) => {
    const rows = rowsOf(permutation, expertOffsets).map(({ row, flat, expert }) => ({
      expert,
      a: gatherA ? Math.floor(flat / topK) : row,
      b: gatherB ? Math.floor(flat / topK) : row,
      s: rowScale?.at(flat) ?? 1,
    }));
    const overRows = (e: number, term: (r: (typeof rows)[number]) => number): number =>
      rows.reduce((total, r) => (r.expert === e ? total + term(r) : total), 0);
    return {
      dWeight: grid(
        dWeight.shape,
        (e, i, j) => overRows(e, (r) => a.at(r.a, i) * b.at(r.b, j)) + (accumulate ? dWeight.at(e, i, j) : 0),
      ),
      ...(dBias && {
        dBias: grid(
          dBias.shape,
          (e, i) => overRows(e, (r) => r.s * a.at(r.a, i)) + (accumulate ? dBias.at(e, i) : 0),
        ),
      }),
    };
  },
  bad: [
    ...badRouting,
    badShape(
      "d_weight of two axes",
      { dWeight: normal([17, 31]) },
      '"d_weight" has shape [17, 31], expected [num_experts, m, n]',
    ),
    badShape(
      "a per pair although gathered",
      { a: normal([66, 17]) },
      '"a" has shape [66, 17], expected [num_rows=33, m=17]',
    ),
    badShape(
      "b per token although not gathered",
      { b: normal([33, 31]) },
      '"b" has shape [33, 31], expected [num_rows=66, n=31]',
    ),
    badShape("d_bias for other experts", { dBias: normal([6, 17]) }, '"d_bias" has shape [6, 17]'),
    badShape("row_scale per token", { rowScale: normal([33]) }, '"row_scale" has shape [33]'),
    badValue(
      "row_scale without d_bias",
      { rowScale: normal([66]), dBias: null },
      '"row_scale" scales "d_bias", which is absent',
    ),
  ],
  badContent: badRoutingContent("grouped_gemm_wgrad"),
});

const experts = {
  w1: normal([4, 3, 2]),
  b1: normal([4, 3]),
  w2: normal([4, 2, 3]),
  b2: normal([4, 2]),
};

const weightsOf = (t: Tensors) => ({
  w1: t.float("w1"),
  b1: t.float("b1"),
  w2: t.float("w2"),
  b2: t.float("b2"),
});

/** Five tokens through four experts, weights given. */
const mix = (t: Tensors, options: Parameters<typeof mixExperts>[4] = {}) =>
  mixExperts(
    t.float("x"),
    t.float("s"),
    dispatch(t.index<[number, number]>("indices"), 4),
    weightsOf(t),
    options,
  );

const given = (topK: number, spread?: Spread) => ({
  inputs: { x: normal([5, 2]), s: uniform([5, topK], 0.2, 1), ...experts },
  constants: { indices: int32([5, topK], routing(5, 4, topK, spread).expertIndices) },
});

const gradients: GradientCase[] = [
  ...(["none", "relu", "gelu", "silu", "tanh", "sigmoid"] as const).map((activation) => ({
    name: `mixExperts, ${activation}`,
    ...given(2),
    forward: (t: Tensors) => mix(t, { activation }),
  })),
  { name: "mixExperts, k = 1", ...given(1), forward: (t) => mix(t) },
  { name: "mixExperts, k = E", ...given(4), forward: (t) => mix(t) },
  { name: "mixExperts, an expert without tokens", ...given(2, "one empty"), forward: (t) => mix(t) },
  { name: "mixExperts, all tokens to one expert", ...given(1, "all to one"), forward: (t) => mix(t) },
  { name: "mixExperts, dropped pairs", ...given(2, "dropped"), forward: (t) => mix(t) },
  ...(["none", "relu", "gelu"] as const).map((activation) => ({
    name: `mixExperts, ${activation} and dropout`,
    ...given(2),
    forward: (t: Tensors) => mix(t, { activation, dropout: { probability: 0.4, seed: 9, call: 1 } }),
  })),
  {
    name: "mixExperts, one weight matrix trained",
    inputs: { w1: experts.w1 },
    constants: { ...given(2).inputs, ...given(2).constants },
    forward: (t) => mix(t),
  },
  {
    name: "mixExperts, biases alone trained",
    inputs: { b1: experts.b1, b2: experts.b2 },
    constants: { ...given(2).inputs, ...given(2).constants },
    forward: (t) => mix(t),
  },
  {
    name: "two passes through the same experts",
    ...given(2),
    forward: (t) => {
      const routed = dispatch(t.index<[number, number]>("indices"), 4);
      const once = mixExperts(t.float("x"), t.float("s"), routed, weightsOf(t));
      return mixExperts(add(once, t.float("x")), t.float("s"), routed, weightsOf(t));
    },
  },
  {
    name: "a whole MoE layer: router, experts, balance loss",
    inputs: { x: normal([5, 2], { std: 2 }), router: normal([4, 2]), bias: normal([4]), ...experts },
    forward: (t) => {
      const { logits, expertIndices, expertWeights } = routerTopK(
        t.float("x"),
        t.float("router"),
        t.float("bias"),
        2,
      );
      const routed = dispatch(expertIndices, 4);
      const y = mixExperts(t.float("x"), expertWeights, routed, weightsOf(t));
      return add(sum(scale(y, 0.5)), balanceLoss(logits, routed.expertOffsets, 2));
    },
  },
];

export default { ops: [forward, dgrad, wgrad], gradients } satisfies Family;
