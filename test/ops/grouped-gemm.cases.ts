import { activate } from "../support/activations.js";
import {
  badRouting,
  badRoutingContent,
  cases,
  routedRows,
  routingArgs,
  rowsOf,
  seeds,
  type Sizes,
} from "../support/expert-segments.js";
import { range, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  type Family,
  normal,
  opCases,
  optional,
  output,
  uniform,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";
import { reduction } from "../support/tolerance.js";

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

export default { ops: [forward] } satisfies Family;
