// Long because five ops share their routings and their refusals.
import type { Weighting } from "../../lib/native-ops.gen.js";
import { dispatch } from "../../lib/ops/dispatch.js";
import { add, mul } from "../../lib/ops/elementwise.js";
import { balanceLoss, routerTopK } from "../../lib/ops/router.js";
import { sum } from "../../lib/ops/reduce.js";
import { badOffsets } from "../support/expert-segments.js";
import { grid, type NdArray, range, softmax, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  type Family,
  filled,
  floats,
  type GradientCase,
  int32,
  integers,
  normal,
  opCases,
  optional,
  output,
  target,
  type Tensors,
  type TensorSpec,
  uniform,
} from "../support/op-case.js";
import { routing, type Spread } from "../support/routing.js";
import { reduction } from "../support/tolerance.js";

interface TopKSizes {
  tokens: number;
  experts: number;
  topK: number;
  /** Absent: the logits are given. */
  dModel?: number;
  bias?: boolean;
  weighting?: Weighting;
  logits?: TensorSpec;
}

/** Indices of the k largest, best first, ties to the lower index; NaN counts as -Infinity. */
function topKOf(logits: readonly number[], k: number): number[] {
  const ranked = logits.map((logit) => (Number.isNaN(logit) ? -Infinity : logit));
  const order = range(logits.length);
  order.sort((a, b) => (ranked[a] === ranked[b] ? a - b : ranked[b]! - ranked[a]!));
  return order.slice(0, k);
}

const specialLogits = [
  [NaN, 1, NaN, 2, 0],
  [NaN, NaN, NaN, NaN, NaN],
  [-Infinity, -Infinity, 3, -Infinity, -Infinity],
  [Infinity, 0, Infinity, 1, NaN],
  [-0, 0, 0, -0, -1],
];

const routerTopk = opCases({
  op: "routerTopk",
  cases: {
    "sizes that divide no tile": { tokens: 33, experts: 7, topK: 3, dModel: 97, bias: true },
    "one of everything": { tokens: 1, experts: 1, topK: 1, dModel: 1 },
    "one token": { tokens: 1, experts: 16, topK: 2, dModel: 33, bias: true },
    "one expert": { tokens: 33, experts: 1, topK: 1, dModel: 7 },
    "k = E": { tokens: 17, experts: 9, topK: 9, dModel: 33, bias: true },
    "k = 1": { tokens: 97, experts: 16, topK: 1, dModel: 9 },
    "uniform weights": { tokens: 9, experts: 7, topK: 3, dModel: 7, weighting: "uniform" },
    "uniform over all experts": { tokens: 9, experts: 7, topK: 7, dModel: 7, weighting: "uniform" },
    "logits as they are": { tokens: 33, experts: 17, topK: 4 },
    "many ties": { tokens: 65, experts: 33, topK: 5, logits: integers([65, 33], -1, 1) },
    "all equal": { tokens: 3, experts: 20, topK: 20, logits: filled([3, 20], 0.5) },
    "NaN and infinite logits": {
      tokens: 5,
      experts: 5,
      topK: 3,
      logits: floats([5, 5], specialLogits.flat()),
    },
    "large logits": { tokens: 9, experts: 16, topK: 16, logits: normal([9, 16], { std: 1000 }) },
    "64 experts": { tokens: 9, experts: 64, topK: 8 },
    "more than 64 experts, ties": { tokens: 17, experts: 130, topK: 33, logits: integers([17, 130], -9, 9) },
    "several tasks": { tokens: 700, experts: 16, topK: 2, dModel: 5, bias: true },
    "more than 64 experts, with x": { tokens: 33, experts: 70, topK: 5, dModel: 97, bias: true },
    "many tokens": { tokens: 2065, experts: 19, topK: 3, dModel: 85, bias: true },
  },
  args: ({ tokens, experts, topK, dModel, bias = false, weighting = "softmax_kept", logits }: TopKSizes) => ({
    x: optional(dModel !== undefined, normal([tokens, dModel ?? 0])),
    routerWeight: optional(
      dModel !== undefined,
      normal([experts, dModel ?? 0], { std: (dModel ?? 1) ** -0.5 }),
    ),
    routerBias: optional(bias, normal([experts])),
    logits: dModel === undefined ? (logits ?? normal([tokens, experts])) : output([tokens, experts]),
    expertIndices: output([tokens, topK], "i32"),
    expertWeights: output([tokens, topK]),
    topK,
    weighting,
  }),
  tolerance: ({ dModel = 1, experts }) => reduction(dModel + experts),
  oracle: ({ x, routerWeight, routerBias, logits, topK, weighting }) => {
    const scores = grid(logits.shape, (t, e) => {
      if (!x || !routerWeight) return logits.at(t, e);
      return sumOf(x.shape[1]!, (i) => x.at(t, i) * routerWeight.at(e, i)) + (routerBias?.at(e) ?? 0);
    });
    const [tokens, experts] = logits.shape as [number, number];
    const rows = range(tokens).map((t) => {
      const row = scores.slice(t * experts, (t + 1) * experts);
      const chosen = topKOf(row, topK);
      // Equal logits weigh the same, infinite ones too.
      const best = row[chosen[0]!]!;
      const kept = chosen.map((e) =>
        row[e] === best || Number.isNaN(best) ? 0 : Number.isNaN(row[e]) ? -Infinity : row[e]! - best,
      );
      return { chosen, weights: weighting === "uniform" ? chosen.map(() => 1 / topK) : softmax(kept) };
    });
    return {
      logits: scores,
      expertIndices: rows.flatMap((row) => row.chosen),
      expertWeights: rows.flatMap((row) => row.weights),
    };
  },
  bad: [
    badValue(
      "top_k above the number of experts",
      { topK: 8, expertIndices: output([33, 8], "i32"), expertWeights: output([33, 8]) },
      '"top_k" is 8, expected 1 to 7',
    ),
    badValue("top_k 0", { topK: 0 }, '"top_k" is 0, expected 1 to 7'),
    badValue("x without weight", { routerWeight: null }, '"x" and "router_weight" go together'),
    badValue("weight without x", { x: null }, '"x" and "router_weight" go together'),
    badValue(
      "bias without x",
      { x: null, routerWeight: null, logits: normal([33, 7]) },
      '"router_bias" needs "x"',
    ),
    badShape(
      "weight of another width",
      { routerWeight: normal([7, 96]) },
      '"router_weight" has shape [7, 96], expected [num_experts=7, d_model=97]',
    ),
    badShape("bias for other experts", { routerBias: normal([8]) }, '"router_bias" has shape [8]'),
    badShape("x with other tokens", { x: normal([32, 97]) }, '"x" has shape [32, 97]'),
    badShape(
      "indices of another width",
      { expertIndices: output([33, 2], "i32") },
      '"expert_indices" has shape [33, 2], expected [num_tokens=33, top_k=3]',
    ),
    badShape(
      "weights of another width",
      { expertWeights: output([33, 7]) },
      '"expert_weights" has shape [33, 7]',
    ),
    badShape(
      "logits of one axis",
      { logits: output([231]) },
      '"logits" has shape [231], expected [num_tokens, num_experts]',
    ),
    badValue(
      "unknown weighting",
      { weighting: "softmax" },
      '"weighting" is "softmax", expected one of softmax_kept, uniform',
    ),
  ],
});

interface RoutedSizes {
  tokens: number;
  experts: number;
  topK: number;
  spread?: Spread;
  accumulate?: boolean;
  perToken?: boolean;
}

const routed: Record<string, RoutedSizes> = {
  "sizes that divide no tile": { tokens: 33, experts: 7, topK: 3 },
  "one of everything": { tokens: 1, experts: 1, topK: 1 },
  "one token": { tokens: 1, experts: 9, topK: 4, accumulate: true, perToken: true },
  "one expert": { tokens: 33, experts: 1, topK: 1, accumulate: true },
  "k = E": { tokens: 17, experts: 5, topK: 5, accumulate: true },
  "an expert without tokens": { tokens: 9, experts: 4, topK: 2, spread: "one empty", perToken: true },
  "all tokens to one expert": { tokens: 33, experts: 4, topK: 1, spread: "all to one" },
  "dropped pairs": { tokens: 33, experts: 6, topK: 2, spread: "dropped", accumulate: true },
  "several tasks": { tokens: 2101, experts: 17, topK: 2, spread: "all to one" },
};

const topkBackward = opCases({
  op: "routerTopkBackward",
  cases: routed,
  args: ({ tokens, experts, topK, spread, accumulate = false }: RoutedSizes) => ({
    dExpertWeights: normal([tokens, topK]),
    expertWeights: uniform([tokens, topK], 0, 2 / topK),
    expertIndices: int32([tokens, topK], routing(tokens, experts, topK, spread).expertIndices),
    dLogits: target([tokens, experts], accumulate),
    accumulate,
  }),
  tolerance: ({ topK }) => reduction(topK, 1),
  oracle: ({ dExpertWeights, expertWeights, expertIndices, dLogits, accumulate }) => {
    const [tokens, topK] = expertWeights.shape as [number, number];
    const means = range(tokens).map((t) =>
      sumOf(topK, (j) => expertWeights.at(t, j) * dExpertWeights.at(t, j)),
    );
    return {
      dLogits: grid(dLogits.shape, (t, e) => {
        const own = sumOf(topK, (i) =>
          expertIndices.at(t, i) === e ? expertWeights.at(t, i) * (dExpertWeights.at(t, i) - means[t]!) : 0,
        );
        return own + (accumulate ? dLogits.at(t, e) : 0);
      }),
    };
  },
  bad: [
    badShape(
      "gradient of another shape",
      { dExpertWeights: normal([33, 2]) },
      '"d_expert_weights" has shape [33, 2], expected [num_tokens=33, top_k=3]',
    ),
    badShape(
      "indices of another shape",
      {
        expertIndices: int32(
          [3, 33],
          range(99).map(() => 0),
        ),
      },
      '"expert_indices" has shape [3, 33]',
    ),
    badShape("logits of other tokens", { dLogits: normal([32, 7]) }, '"d_logits" has shape [32, 7]'),
    badValue("fewer experts than slots", { dLogits: output([33, 2]) }, '"top_k" is 3, expected 1 to 2'),
  ],
  badContent: [
    badValue(
      "expert = num_experts",
      {
        expertIndices: int32(
          [33, 3],
          range(99).map((f) => (f === 9 ? 7 : 0)),
        ),
      },
      "router_topk_backward: expert_indices[9] is 7, expected -1 to 6",
    ),
    badValue(
      "below -1",
      {
        expertIndices: int32(
          [33, 3],
          range(99).map((f) => (f === 9 ? -2 : 0)),
        ),
      },
      "expert_indices[9] is -2",
    ),
  ],
});

const routerEntropy = opCases({
  op: "routerEntropy",
  cases: {
    "sizes that divide no tile": { logits: normal([33, 7]) },
    "one of everything": { logits: normal([1, 1]) },
    "one token": { logits: normal([1, 33]) },
    "one expert": { logits: normal([33, 1]) },
    "equal logits": { logits: filled([5, 16], 3) },
    "one certain expert": { logits: floats([1, 3], [1000, -1000, 0]) },
    "an expert that is ruled out": { logits: floats([1, 3], [-Infinity, 1, 0]) },
    "several tasks": { logits: normal([2101, 17]) },
  },
  args: ({ logits }: { logits: TensorSpec }) => ({ logits, entropy: output([1]) }),
  tolerance: ({ logits }) => reduction(logits.shape[1]!),
  oracle: ({ logits }) => {
    const tokens = logits.shape[0]!;
    const entropy = (p: readonly number[]): number =>
      -sumOf(p.length, (i) => (p[i]! > 0 ? p[i]! * Math.log(p[i]!) : 0));
    return { entropy: [sumOf(tokens, (t) => entropy(softmax(logits.row(t)))) / tokens] };
  },
  bad: [
    badShape(
      "logits of one axis",
      { logits: normal([231]) },
      '"logits" has shape [231], expected [num_tokens, num_experts]',
    ),
    badShape("entropy per token", { entropy: output([33]) }, '"entropy" has shape [33], expected [1]'),
  ],
});

/** f: the share of routed pairs that each expert got. */
function shares(offsets: NdArray): number[] {
  const total = offsets.at(offsets.size - 1);
  return range(offsets.size - 1).map((e) => (total > 0 ? (offsets.at(e + 1) - offsets.at(e)) / total : 0));
}

const offsetsOf = ({ tokens, experts, topK, spread }: RoutedSizes): TensorSpec =>
  int32([experts + 1], routing(tokens, experts, topK, spread).expertOffsets);

const firstOffsets = routing(33, 7, 3).expertOffsets;
const manyOffsets = routing(33, 40, 3).expertOffsets;

const badBalance = [
  badShape(
    "offsets for other experts",
    { expertOffsets: int32([7], range(7)) },
    '"expert_offsets" has shape [7], expected [num_experts+1=8]',
  ),
  badValue("top_k above the number of experts", { topK: 8 }, '"top_k" is 8, expected 1 to 7'),
  badShape("logits of one axis", { logits: normal([231]) }, '"logits" has shape [231]'),
] as const;

const balance = opCases({
  op: "balanceLoss",
  cases: routed,
  args: (sizes: RoutedSizes) => ({
    logits: normal([sizes.tokens, sizes.experts]),
    expertOffsets: offsetsOf(sizes),
    loss: output([1]),
    topK: sizes.topK,
    perToken: sizes.perToken ?? false,
  }),
  tolerance: ({ experts }) => reduction(experts),
  oracle: ({ logits, expertOffsets, topK, perToken }) => {
    const [tokens, experts] = logits.shape as [number, number];
    const f = shares(expertOffsets);
    const probabilities = range(tokens).map((t) => softmax(logits.row(t)));
    const divisor = perToken ? tokens : tokens * topK;
    return {
      loss: [
        experts * sumOf(experts, (e) => (f[e]! * sumOf(tokens, (t) => probabilities[t]![e]!)) / divisor),
      ],
    };
  },
  bad: [
    ...badBalance,
    badShape("a loss per token", { loss: output([33]) }, '"loss" has shape [33], expected [1]'),
  ],
  badContent: [
    ...badOffsets("balance_loss", firstOffsets),
    badValue(
      "offsets that fall, the first of more than 32",
      {
        logits: normal([33, 40]),
        expertOffsets: int32(
          [41],
          manyOffsets.map((offset, e) => (e === 3 ? 99 : offset)),
        ),
      },
      `balance_loss: expert_offsets[4] is ${manyOffsets[4]!}, expected 99 to 99`,
    ),
  ],
});

const balanceBackward = opCases({
  op: "balanceLossBackward",
  cases: routed,
  args: (sizes: RoutedSizes) => ({
    dLoss: floats([1], [0.75]),
    logits: normal([sizes.tokens, sizes.experts]),
    expertOffsets: offsetsOf(sizes),
    dLogits: target([sizes.tokens, sizes.experts], sizes.accumulate ?? false),
    topK: sizes.topK,
    perToken: sizes.perToken ?? false,
    accumulate: sizes.accumulate ?? false,
  }),
  tolerance: ({ tokens, experts }) => reduction(tokens + experts),
  oracle: ({ dLoss, logits, expertOffsets, dLogits, topK, perToken, accumulate }) => {
    const [tokens, experts] = logits.shape as [number, number];
    const f = shares(expertOffsets);
    const factor = (dLoss.at(0) * experts) / (perToken ? tokens : tokens * topK);
    return {
      dLogits: range(tokens).flatMap((t) => {
        const p = softmax(logits.row(t));
        const expected = sumOf(experts, (e) => p[e]! * f[e]!);
        return p.map((p_i, e) => factor * p_i * (f[e]! - expected) + (accumulate ? dLogits.at(t, e) : 0));
      }),
    };
  },
  bad: [
    ...badBalance,
    badShape("d_loss of two elements", { dLoss: normal([2]) }, '"d_loss" has shape [2], expected [1]'),
    badShape("d_logits of another shape", { dLogits: normal([7, 33]) }, '"d_logits" has shape [7, 33]'),
  ],
  badContent: badOffsets("balance_loss_backward", firstOffsets),
});

/** Logits far enough apart that a finite difference never changes the selection. */
const x = normal([5, 4], { std: 2 });
const router = { weight: normal([6, 4]), bias: normal([6]) };

const topK = (t: Tensors, k: number, weighting?: Weighting) =>
  routerTopK(t.float("x"), t.float("weight"), t.float("bias"), k, weighting);

const gradients: GradientCase[] = [
  ...[2, 3, 6].map((k) => ({
    name: `routerTopK, k = ${k} of 6`,
    inputs: { x, ...router },
    forward: (t: Tensors) => topK(t, k).expertWeights,
  })),
  {
    name: "routerTopK without bias",
    inputs: { x, weight: router.weight },
    forward: (t) => routerTopK(t.float("x"), t.float("weight"), null, 2).expertWeights,
  },
  {
    name: "k = 1: no gradient reaches the router",
    inputs: { x, ...router },
    zero: ["x", "weight", "bias"],
    forward: (t) => topK(t, 1).expertWeights,
  },
  {
    name: "uniform weights: no gradient reaches the router",
    inputs: { x, ...router },
    zero: ["x", "weight", "bias"],
    forward: (t) => topK(t, 3, "uniform").expertWeights,
  },
  {
    name: "logits alone",
    inputs: { x, ...router },
    forward: (t) => topK(t, 2).logits,
  },
  ...[false, true].map((perToken) => ({
    name: `balanceLoss, perToken ${perToken}`,
    inputs: { x, ...router },
    forward: (t: Tensors) => {
      const { logits, expertIndices } = topK(t, 2);
      return balanceLoss(logits, dispatch(expertIndices, 6).expertOffsets, 2, perToken);
    },
  })),
  {
    name: "expert weights and balance loss together",
    inputs: { x, ...router },
    forward: (t) => {
      const { logits, expertIndices, expertWeights } = topK(t, 3);
      const balance = balanceLoss(logits, dispatch(expertIndices, 6).expertOffsets, 3);
      return add(sum(mul(expertWeights, expertWeights)), balance);
    },
  },
];

export default {
  ops: [routerTopk, topkBackward, routerEntropy, balance, balanceBackward],
  gradients,
} satisfies Family;
