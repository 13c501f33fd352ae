import { activate } from "../support/activations.js";
import {
  badRouting,
  badRoutingContent,
  cases,
  routedRows,
  routingArgs,
  rowsOf,
  seeds,
  sized,
  type Sizes,
} from "../support/expert-segments.js";
import { grid, range, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  type Family,
  int32,
  normal,
  opCases,
  optional,
  output,
  target,
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

/** Every token to every expert. */
function toAll(tokens: number, experts: number, k: number, n: number, options: Partial<Sizes> = {}): Sizes {
  return sized(tokens, experts, experts, k, n, options);
}

const summed: Record<string, Sizes> = {
  "sizes that divide no tile": toAll(33, 5, 17, 31, { bias: true, scale: "bias" }),
  "one of everything": toAll(1, 1, 1, 1),
  "one token": toAll(1, 9, 33, 7, { bias: true, scale: "bias", accumulate: true }),
  "one expert": toAll(33, 1, 9, 33, { transposeWeight: true }),
  "bias alone": toAll(9, 4, 8, 12, { bias: true }),
  "gradient of x": toAll(41, 3, 39, 18, { transposeWeight: true, accumulate: true }),
  "large tiles": toAll(300, 2, 70, 140, { bias: true, scale: "bias" }),
  "large tiles, transposed": toAll(260, 3, 36, 132, { transposeWeight: true }),
  "k in several pieces": toAll(15, 3, 531, 20, { bias: true, scale: "bias" }),
  "several tasks, k in several pieces": toAll(290, 3, 531, 40, { transposeWeight: true, accumulate: true }),
};

const sum = opCases({
  op: "groupedGemmSum",
  cases: summed,
  args: (sizes: Sizes) => {
    const { tokens, experts, k, n, transposeWeight = false, accumulate = false } = sizes;
    const { bias = false, scale = "none" } = sizes;
    return {
      a: normal([tokens * experts, k]),
      weight: normal(transposeWeight ? [experts, k, n] : [experts, n, k], { std: k ** -0.5 }),
      bias: optional(bias, normal([experts, n])),
      rowScale: optional(scale !== "none", uniform([tokens * experts], 0, 1)),
      ...routingArgs(sizes),
      out: target([tokens, n], accumulate),
      transposeWeight,
      accumulate,
    };
  },
  tolerance: ({ k, experts }) => reduction(k * experts),
  oracle: ({ a, weight, bias, rowScale, permutation, expertOffsets, out, transposeWeight, accumulate }) => {
    const experts = expertOffsets.size - 1;
    const rows = rowsOf(permutation, expertOffsets);
    const rowsOfToken = range(out.shape[0]!).map((t) =>
      rows.filter(({ flat }) => Math.floor(flat / experts) === t),
    );
    const term = ({ row, flat, expert }: (typeof rows)[number], j: number): number =>
      (bias?.at(expert, j) ?? 0) * (rowScale?.at(flat) ?? 1) +
      sumOf(
        a.shape[1]!,
        (i) => a.at(row, i) * (transposeWeight ? weight.at(expert, i, j) : weight.at(expert, j, i)),
      );
    return {
      out: grid(out.shape, (t, j) =>
        rowsOfToken[t]!.reduce((total, row) => total + term(row, j), accumulate ? out.at(t, j) : 0),
      ),
    };
  },
  bad: [
    badShape(
      "rows for other tokens",
      { a: normal([160, 17]) },
      '"a" has shape [160, 17], expected [num_routed=165, k=17]',
    ),
    badShape(
      "weight of two axes",
      { weight: normal([31, 17]) },
      '"weight" has shape [31, 17], expected [num_experts, n, k]',
    ),
    badShape("out of one axis", { out: output([33]) }, '"out" has shape [33], expected [num_tokens, n]'),
    badShape(
      "out of another width",
      { out: output([33, 30]) },
      '"out" has shape [33, 30], expected [num_tokens=33, n=31]',
    ),
    badShape(
      "permutation for two experts a token",
      { permutation: int32([66], range(66)) },
      '"permutation" has shape [66], expected [num_routed=165]',
    ),
    badShape(
      "offsets for other experts",
      { expertOffsets: int32([7], range(7)) },
      '"expert_offsets" has shape [7], expected [num_experts+1=6]',
    ),
    badShape("bias for other experts", { bias: normal([6, 31]) }, '"bias" has shape [6, 31]'),
    badShape("row_scale per token", { rowScale: normal([33]) }, '"row_scale" has shape [33]'),
    badValue("row_scale without bias", { bias: null }, '"row_scale" scales "bias", which is absent'),
  ],
  badContent: [
    ...badRoutingContent("grouped_gemm_sum", summed["sizes that divide no tile"]),
    badValue(
      "an expert with a token less",
      { expertOffsets: int32([6], [0, 33, 65, 99, 132, 165]) },
      "grouped_gemm_sum: expert_offsets[2] is 65, expected 66 to 165",
    ),
    badValue(
      "a dropped pair",
      { expertOffsets: int32([6], [0, 33, 66, 99, 132, 164]) },
      "grouped_gemm_sum: expert_offsets[5] is 164, expected 165 to 165",
    ),
  ],
});

export default { ops: [forward, sum] } satisfies Family;
