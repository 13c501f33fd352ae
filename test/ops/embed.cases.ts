import { embed } from "../../lib/ops/embed.js";
import { add } from "../../lib/ops/elementwise.js";
import { grid, range, sumOf } from "../support/nd-array.js";
import {
  badDType,
  badShape,
  badValue,
  type Family,
  type GradientCase,
  indexRange,
  int32,
  normal,
  opCases,
  output,
} from "../support/op-case.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  tokens: number;
  rows: number;
  width: number;
  firstId?: number;
  vocabSize?: number;
  scale?: number;
  ids?: number[];
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { tokens: 33, rows: 7, width: 97 },
  "one of everything": { tokens: 1, rows: 1, width: 1 },
  "one token": { tokens: 1, rows: 9, width: 33 },
  scaled: { tokens: 9, rows: 5, width: 7, scale: 16 },
  "a cluster of ids": { tokens: 97, rows: 7, width: 5, firstId: 3, vocabSize: 20 },
  "no id in the cluster": { tokens: 3, rows: 2, width: 5, firstId: 10, vocabSize: 20, ids: [0, 9, 12] },
  "all tokens one id": { tokens: 65, rows: 4, width: 17, ids: range(65).map(() => 2) },
  "several tasks": { tokens: 700, rows: 50, width: 97 },
  "many tokens one id": { tokens: 1100, rows: 3, width: 5, ids: range(1100).map((t) => (t === 7 ? 0 : 1)) },
  "a large table": { tokens: 1200, rows: 70000, width: 3 },
};

const args = ({ tokens, rows, width, firstId = 0, vocabSize = rows, scale = 1, ids }: Sizes) => ({
  ids: ids ? int32([tokens], ids) : indexRange([tokens], 0, vocabSize - 1),
  table: normal([rows, width]),
  out: output([tokens, width]),
  firstId,
  vocabSize,
  scale,
});

const forward = opCases({
  op: "embed",
  cases,
  args,
  tolerance: () => "elementwise",
  oracle: ({ ids, table, out, firstId, scale }) => ({
    out: grid(out.shape, (t, j) => {
      const row = ids.at(t) - firstId;
      return row >= 0 && row < table.shape[0]! ? scale * table.at(row, j) : 0;
    }),
  }),
  bad: [
    badShape(
      "ids of two axes",
      { ids: indexRange([3, 11], 0, 6) },
      '"ids" has shape [3, 11], expected [num_tokens]',
    ),
    badDType("ids as floats", { ids: normal([33]) }, "expected i32"),
    badShape(
      "out of another width",
      { out: output([33, 96]) },
      '"out" has shape [33, 96], expected [num_tokens=33, width=97]',
    ),
    badValue("vocabulary below the table", { vocabSize: 6 }, '"vocab_size" is 6, expected 7 to'),
    badValue("first_id past the vocabulary", { firstId: 1 }, '"first_id" is 1, expected 0 to 0'),
    badValue("negative first_id", { firstId: -1 }, '"first_id" is -1'),
    badValue("infinite scale", { scale: -Infinity }, '"scale" is -inf'),
    badShape(
      "table of one axis",
      { table: normal([97]) },
      '"table" has shape [97], expected [num_rows, width]',
    ),
  ],
  badContent: [
    badValue(
      "id = vocab_size",
      {
        ids: int32(
          [33],
          range(33).map((t) => (t === 20 ? 7 : 0)),
        ),
      },
      "embed: ids[20] is 7, expected 0 to 6",
    ),
    badValue(
      "negative id",
      {
        ids: int32(
          [33],
          range(33).map((t) => (t === 32 ? -1 : 0)),
        ),
      },
      "embed: ids[32] is -1, expected 0 to 6",
    ),
    badValue(
      "lowest i32",
      {
        ids: int32(
          [33],
          range(33).map(() => -2147483648),
        ),
      },
      "ids[0] is -2147483648",
    ),
  ],
});

const backward = opCases({
  op: "embedBackward",
  cases,
  args: (sizes: Sizes) => {
    const { ids, table, out, firstId, scale } = args(sizes);
    return { dOut: normal(out.shape), ids, dTable: normal(table.shape), firstId, scale };
  },
  tolerance: ({ tokens }) => reduction(tokens),
  oracle: ({ dOut, ids, dTable, firstId, scale }) => ({
    dTable: grid(dTable.shape, (row, j) => {
      const sum = sumOf(ids.size, (t) => (ids.at(t) === row + firstId ? dOut.at(t, j) : 0));
      return dTable.at(row, j) + scale * sum;
    }),
  }),
  bad: [
    badShape(
      "ids of another length",
      { ids: indexRange([32], 0, 6) },
      '"ids" has shape [32], expected [num_tokens=33]',
    ),
    badShape(
      "d_table of another width",
      { dTable: normal([7, 96]) },
      '"d_table" has shape [7, 96], expected [num_rows=7, width=97]',
    ),
    badValue("negative first_id", { firstId: -1 }, '"first_id" is -1'),
    badValue("NaN scale", { scale: NaN }, '"scale" is nan'),
  ],
});

const gradients: GradientCase[] = [
  {
    name: "embed, ids repeated",
    inputs: { table: normal([5, 3]) },
    constants: { ids: int32([2, 3], [1, 1, 4, 0, 1, 4]) },
    forward: (t) => embed(t.index("ids"), t.float("table"), { scale: 2 }),
  },
  {
    name: "embed of one cluster",
    inputs: { table: normal([3, 4]) },
    constants: { ids: int32([6], [0, 2, 3, 4, 5, 7]) },
    forward: (t) => embed(t.index("ids"), t.float("table"), { firstId: 3, vocabSize: 8 }),
  },
  {
    name: "a table used twice",
    inputs: { table: normal([4, 3]) },
    constants: { a: int32([3], [0, 1, 2]), b: int32([3], [2, 2, 1]) },
    forward: (t) =>
      add(embed(t.index("a"), t.float("table")), embed(t.index("b"), t.float("table"), { scale: 3 })),
  },
];

export default { ops: [forward, backward], gradients } satisfies Family;
