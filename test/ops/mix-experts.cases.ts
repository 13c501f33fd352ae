import { dispatch } from "../../lib/ops/dispatch.js";
import { add, scale } from "../../lib/ops/elementwise.js";
import { expertRows, mixExperts } from "../../lib/ops/grouped-gemm.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { sum } from "../../lib/ops/reduce.js";
import { balanceLoss, routerTopK } from "../../lib/ops/router.js";
import { type Family, type GradientCase, int32, normal, type Tensors, uniform } from "../support/op-case.js";
import { routing, type Spread } from "../support/routing.js";

// The experts of a layer as one function: grouped products, activation, dropout, weights and combine together.

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
const mix = (t: Tensors, options: Parameters<typeof mixExperts>[4] = {}, dense = false) =>
  mixExperts(
    t.float("x"),
    t.float("s"),
    dispatch(t.index<[number, number]>("indices"), 4, dense),
    weightsOf(t),
    options,
  );

/** x and its experts, dropped, summed and normalised in one op. */
const mixAndNorm = (t: Tensors, dense = false) => {
  const x = t.float("x");
  const routed = dispatch(t.index<[number, number]>("indices"), 4, dense);
  const rows = expertRows(x, t.float("s"), routed, weightsOf(t), {
    activation: "gelu",
    dropout: { probability: 0.4, seed: 9, call: 1 },
  });
  return layerNorm(x, rows, t.float("weight"), t.float("bias"), {
    eps: 0.5,
    dropout: { probability: 0.3, seed: 9, call: 2 },
  });
};

const norm = { weight: normal([2], { mean: 1 }), bias: normal([2]) };

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
  {
    name: "mixExperts, k = E without rows between product and sum",
    ...given(4),
    forward: (t) => mix(t, { activation: "gelu", dropout: { probability: 0.4, seed: 9, call: 1 } }, true),
  },
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
  ...[1, 2, 4].map((topK) => ({
    name: `experts and norm, k = ${topK}`,
    inputs: { ...given(topK).inputs, ...norm },
    constants: given(topK).constants,
    forward: (t: Tensors) => mixAndNorm(t),
  })),
  {
    name: "experts and norm, k = E without rows between product and sum",
    inputs: { ...given(4).inputs, ...norm },
    constants: given(4).constants,
    forward: (t) => mixAndNorm(t, true),
  },
  {
    name: "experts and norm, dropped pairs",
    inputs: { ...given(2, "dropped").inputs, ...norm },
    constants: given(2, "dropped").constants,
    forward: (t) => mixAndNorm(t),
  },
  {
    name: "experts and norm, one weight matrix trained",
    inputs: { w2: experts.w2 },
    constants: { ...given(2).inputs, ...given(2).constants, ...norm },
    forward: (t) => mixAndNorm(t),
  },
  {
    name: "experts and norm, the norm alone trained",
    inputs: norm,
    constants: { ...given(2).inputs, ...given(2).constants },
    forward: (t) => mixAndNorm(t),
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

export default { ops: [], gradients } satisfies Family;
