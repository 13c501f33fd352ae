import { activate, slope } from "../support/activations.js";
import {
  badRouting,
  badRoutingContent,
  cases,
  routedRows,
  routingArgs,
  routingOf,
  rowsOf,
  seeds,
  sized,
  type Sizes,
} from "../support/expert-segments.js";
import { grid, range, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  drawn,
  type Family,
  floats,
  normal,
  opCases,
  optional,
  output,
  target,
  type TensorSpec,
  uniform,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";
import { reduction } from "../support/tolerance.js";

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
    "both gathered": sized(17, 4, 2, 9, 33, {
      gather: true,
      transposeWeight: true,
      bias: true,
      scale: "output",
    }),
    "an expert without tokens, accumulating": sized(9, 4, 2, 7, 9, {
      spread: "one empty",
      bias: true,
      accumulate: true,
    }),
    "long segments": sized(1100, 3, 1, 5, 8, {
      spread: "one empty",
      gather: true,
      bias: true,
      scale: "output",
      accumulate: true,
    }),
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

export default { ops: [dgrad, wgrad] } satisfies Family;
