import type { Activation, RowScale } from "../../lib/native-ops.gen.js";
import { type NdArray, range } from "./nd-array.js";
import {
  type BadCall,
  badDType,
  badShape,
  badValue,
  drawn,
  floats,
  int32,
  normal,
  type TensorSpec,
} from "./op-case.js";
import { type Routing, routing, type Spread } from "./routing.js";

/** Sizes and options of a grouped product; each op takes those that mean something to it. */
export interface Sizes {
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

export function sized(
  tokens: number,
  experts: number,
  topK: number,
  k: number,
  n: number,
  options: Partial<Sizes> = {},
): Sizes {
  return { tokens, experts, topK, k, n, ...options };
}

/** Cases of all three grouped products. */
export const cases: Record<string, Sizes> = {
  "sizes that divide no tile": sized(33, 7, 2, 17, 31, { gather: true, bias: true }),
  "one of everything": sized(1, 1, 1, 1, 1),
  "one token": sized(1, 9, 3, 33, 7, { gather: true, bias: true, scale: "output", activation: "relu" }),
  "one expert": sized(33, 1, 1, 9, 33, { bias: true, scale: "bias", accumulate: true }),
  "k = E": sized(9, 5, 5, 7, 17, { gather: true, transposeWeight: true, accumulate: true }),
  "an expert without tokens": sized(9, 4, 2, 7, 9, { spread: "one empty", bias: true, scale: "bias" }),
  "all tokens to one expert": sized(33, 4, 1, 7, 9, {
    spread: "all to one",
    gather: true,
    scale: "output",
    bias: true,
    activation: "gelu",
    pre: true,
    accumulate: true,
  }),
  "dropped pairs": sized(33, 4, 2, 9, 17, {
    spread: "dropped",
    gather: true,
    bias: true,
    scale: "output",
    activation: "relu",
    dropout: 0.25,
  }),
  "dropped pairs, rows in expert order": sized(33, 4, 2, 9, 17, {
    spread: "dropped",
    transposeWeight: true,
    accumulate: true,
  }),
  "silu with dropout": sized(9, 3, 2, 7, 19, {
    gather: true,
    bias: true,
    scale: "output",
    activation: "silu",
    pre: true,
    dropout: 0.5,
  }),
  tanh: sized(9, 3, 2, 7, 19, { gather: true, bias: true, activation: "tanh", pre: true, scale: "output" }),
  sigmoid: sized(9, 3, 1, 7, 19, { bias: true, activation: "sigmoid", pre: true }),
  "no activation, dropout": sized(9, 3, 2, 7, 19, { scale: "output", dropout: 0.3, pre: true }),
  "many experts": sized(45, 70, 2, 5, 9, { gather: true, scale: "output" }),
  "large tiles": sized(300, 2, 1, 70, 140, {
    gather: true,
    bias: true,
    scale: "output",
    activation: "gelu",
    pre: true,
    dropout: 0.1,
  }),
  "several tasks for one expert": sized(290, 1, 1, 531, 40, {
    bias: true,
    scale: "output",
    activation: "relu",
  }),
  "rows that many tiles read": sized(450, 9, 8, 73, 70, { gather: true, bias: true, scale: "output" }),
  "weights that many tiles read": sized(400, 1, 1, 37, 70, { transposeWeight: true }),
  "several tasks": sized(97, 5, 2, 33, 65, { gather: true, bias: true, scale: "output", activation: "relu" }),
};

export const seeds = { seed: 13, call: 6 };

export const routingOf = ({ tokens, experts, topK, spread }: Sizes): Routing =>
  routing(tokens, experts, topK, spread);

export const routingArgs = (sizes: Sizes) => {
  const { permutation, expertOffsets } = routingOf(sizes);
  return {
    permutation: int32([permutation.length], permutation),
    expertOffsets: int32([expertOffsets.length], expertOffsets),
  };
};

/** Rows in expert order; those past the last routed one are NaN, for they are never read. */
export function routedRows(sizes: Sizes, width: number, values?: NdArray): TensorSpec {
  const { numRows } = routingOf(sizes);
  const shape = [sizes.tokens * sizes.topK, width];
  const source = values ?? drawn(normal(shape));
  return floats(
    shape,
    source.map((value, i) => (i < numRows * width ? value : NaN)),
  );
}

/** Where each routed row comes from. */
export function rowsOf(permutation: NdArray, expertOffsets: NdArray) {
  return range(expertOffsets.at(expertOffsets.size - 1)).map((row) => ({
    row,
    flat: permutation.at(row),
    expert: range(expertOffsets.size - 1).findIndex((e) => row < expertOffsets.at(e + 1)),
  }));
}

/** What every grouped product refuses. */
export const badRouting: BadCall[] = [
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

/** What every grouped product refuses once it runs. Changes to the first case, which has `sizes`. */
export function badRoutingContent(op: string, sizes: Sizes = cases["sizes that divide no tile"]!): BadCall[] {
  const { permutation, expertOffsets } = routingOf(sizes);
  const numRouted = permutation.length;
  const spoilt = (rows: readonly number[], value: number) => ({
    permutation: int32(
      [numRouted],
      permutation.map((f, row) => (rows.includes(row) ? value : f)),
    ),
  });
  const badIndex = (name: string, value: number, ...rows: number[]): BadCall =>
    badValue(
      name,
      spoilt(rows, value),
      `${op}: permutation[${rows[0]!}] is ${value}, expected 0 to ${numRouted - 1}`,
    );
  const badOffset = badOffsets(op, expertOffsets);
  return [
    badIndex("flat index past the end", numRouted, 5),
    badIndex("negative flat index among the routed rows", -1, 5),
    badIndex("huge flat index", 2147483647, 5),
    badIndex("flat index past the end in the last row", numRouted, numRouted - 1),
    badIndex("several bad flat indices", -7, 5, 40, numRouted - 1),
    ...badOffset,
    ...badOffset.map(({ name, change, says, ...rest }) => ({
      name: `${name}, and bad flat indices`,
      change: { ...change, ...spoilt([0, 5, numRouted - 1], numRouted) },
      says,
      ...rest,
    })),
  ];
}

/** Offsets of experts that cannot be, made of those that are. */
export function badOffsets(op: string, offsets: readonly number[]): BadCall[] {
  const [last, total] = [offsets.length - 1, offsets.at(-1)!];
  const bad = (name: string, at: number, value: number, found = at): BadCall => {
    const spoilt = offsets.map((offset, e) => (e === at ? value : offset));
    const says = `${op}: expert_offsets[${found}] is ${spoilt[found]!}`;
    return badValue(name, { expertOffsets: int32([offsets.length], spoilt) }, says);
  };
  return [
    bad("offsets that do not start at 0", 0, 1),
    bad("offsets past the rows", last, total + 1),
    bad("offsets that fall", 3, total, 4),
    bad("negative offsets", 2, -9),
    bad("huge offsets", last, 2147483647),
    badValue(
      "all offsets bad but the first",
      { expertOffsets: int32([offsets.length], [0, ...range(last).map((e) => -1 - e)]) },
      `${op}: expert_offsets[1] is -1`,
    ),
  ];
}
