import { relAttention } from "../../lib/ops/rel-attention.js";
import { concatRows } from "../../lib/ops/view.js";
import { linear } from "../../lib/ops/gemm.js";
import { grid, logSumExp, type NdArray, range, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  drawn,
  type Family,
  floats,
  type GradientCase,
  normal,
  opCases,
  output,
  type Tensors,
  type Values,
} from "../support/op-case.js";
import { dropoutFactors } from "../support/philox.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  qLen: number;
  kLen: number;
  batch: number;
  heads: number;
  dHead: number;
  blockedLag?: number;
  dropout?: number;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { qLen: 7, kLen: 12, batch: 3, heads: 2, dHead: 5 },
  "one of everything": { qLen: 1, kLen: 1, batch: 1, heads: 1, dHead: 1 },
  "one token with memory": { qLen: 1, kLen: 33, batch: 2, heads: 3, dHead: 8 },
  "no memory": { qLen: 17, kLen: 17, batch: 1, heads: 2, dHead: 16 },
  "same length": { qLen: 9, kLen: 14, batch: 2, heads: 1, dHead: 7, blockedLag: 2 },
  "same length, lag below 0": { qLen: 4, kLen: 12, batch: 1, heads: 2, dHead: 3, blockedLag: -5 },
  "each row sees itself alone": { qLen: 5, kLen: 9, batch: 1, heads: 1, dHead: 4, blockedLag: -3 },
  dropout: { qLen: 9, kLen: 13, batch: 2, heads: 2, dHead: 9, dropout: 0.3 },
  "dropout, same length": { qLen: 8, kLen: 11, batch: 1, heads: 3, dHead: 6, dropout: 0.5, blockedLag: 4 },
  "several tasks": { qLen: 25, kLen: 50, batch: 2, heads: 2, dHead: 33, dropout: 0.1 },
  "several blocks of queries": { qLen: 101, kLen: 120, batch: 1, heads: 1, dHead: 6, blockedLag: 8 },
  "parts of a large batch": { qLen: 1, kLen: 3, batch: 513, heads: 1, dHead: 1 },
  "a head wider than a tile": { qLen: 9, kLen: 14, batch: 1, heads: 2, dHead: 70, dropout: 0.2 },
};

const inputs = ({ qLen, kLen, batch, heads, dHead }: Sizes) => ({
  q: normal([qLen, batch, heads * dHead]),
  kv: normal([kLen, batch, 2 * heads * dHead]),
  p: normal([kLen, heads * dHead]),
  u: normal([heads, dHead]),
  v: normal([heads, dHead]),
});

const scalars = ({ qLen, blockedLag = qLen, dropout = 0 }: Sizes) => ({
  blockedLag,
  dropout,
  seed: 21,
  call: 4,
});

type Inputs = Values<ReturnType<typeof inputs> & ReturnType<typeof scalars>>;

/**
 * Attention by its definition, the position term by padding and shifting a matrix: put a zero column before the
 * [qLen, kLen] products ⟨q_i + v, p_c⟩, read the buffer as [kLen + 1, qLen], drop its first row, read as
 * [qLen, kLen] again.
 */
class Attention {
  readonly qLen: number;
  readonly kLen: number;
  readonly batch: number;
  readonly heads: number;
  readonly dHead: number;
  readonly #factors: readonly number[];

  constructor(readonly of: Inputs) {
    [this.qLen, this.batch] = of.q.shape as [number, number];
    this.kLen = of.kv.shape[0]!;
    [this.heads, this.dHead] = of.u.shape as [number, number];
    this.#factors = dropoutFactors(of.dropout, of, this.batch * this.heads * this.qLen * this.kLen);
  }

  q = (i: number, b: number, h: number, d: number): number => this.of.q.at(i, b, h * this.dHead + d);
  key = (j: number, b: number, h: number, d: number): number => this.of.kv.at(j, b, h * this.dHead + d);
  value = (j: number, b: number, h: number, d: number): number =>
    this.of.kv.at(j, b, (this.heads + h) * this.dHead + d);
  p = (c: number, h: number, d: number): number => this.of.p.at(c, h * this.dHead + d);
  /** The row of p for query i and key j, in the closed form. */
  positionOf = (i: number, j: number): number => j + this.qLen - 1 - i;

  blocked(i: number, j: number): boolean {
    return j > i + this.kLen - this.qLen || j <= i - this.of.blockedLag;
  }

  /** Scores of one batch element and head; -Infinity where blocked. */
  scores(b: number, h: number): number[][] {
    const { qLen, kLen, dHead } = this;
    const { u, v } = this.of;
    const raw = grid([qLen, kLen], (i, c) =>
      sumOf(dHead, (d) => (this.q(i, b, h, d) + v.at(h, d)) * this.p(c, h, d)),
    );
    const padded = range(qLen).flatMap((i) => [0, ...raw.slice(i * kLen, (i + 1) * kLen)]);
    const shifted = padded.slice(qLen);
    return range(qLen).map((i) =>
      range(kLen).map((j) => {
        if (this.blocked(i, j)) return -Infinity;
        const content = sumOf(dHead, (d) => (this.q(i, b, h, d) + u.at(h, d)) * this.key(j, b, h, d));
        return (content + shifted[i * kLen + j]!) / Math.sqrt(dHead);
      }),
    );
  }

  factor(b: number, h: number, i: number, j: number): number {
    return this.#factors[((b * this.heads + h) * this.qLen + i) * this.kLen + j]!;
  }
}

/** The forward op. */
function attend(of: Inputs): { out: number[]; lse: number[] } {
  const a = new Attention(of);
  const scores = range(a.batch).map((b) => range(a.heads).map((h) => a.scores(b, h)));
  const lse = grid([a.batch, a.heads, a.qLen], (b, h, i) => logSumExp(scores[b]![h]![i]!));
  const out = grid(of.q.shape, (i, b, hd) => {
    const [h, d] = [Math.floor(hd / a.dHead), hd % a.dHead];
    return sumOf(a.kLen, (j) => {
      const probability = Math.exp(scores[b]![h]![i]![j]! - lse[(b * a.heads + h) * a.qLen + i]!);
      return probability * a.factor(b, h, i, j) * a.value(j, b, h, d);
    });
  });
  return { out, lse };
}

const zeros = (like: NdArray): number[] => like.map(() => 0);

const badShapes = [
  badShape(
    "q of two axes",
    { q: normal([7, 30]) },
    '"q" has shape [7, 30], expected [q_len, batch, num_heads*d_head]',
  ),
  badShape(
    "q of another width",
    { q: normal([7, 3, 11]) },
    '"q" has shape [7, 3, 11], expected [q_len=7, batch=3, num_heads*d_head=10]',
  ),
  badShape("kv of another batch", { kv: normal([12, 2, 20]) }, '"kv" has shape [12, 2, 20]'),
  badShape(
    "keys without values",
    { kv: normal([12, 3, 10]) },
    '"kv" has shape [12, 3, 10], expected [k_len=12, batch=3, 2*num_heads*d_head=20]',
  ),
  badValue(
    "fewer keys than queries",
    { kv: normal([6, 3, 20]), p: normal([6, 10]) },
    '"k_len" is 6, expected 7 to',
  ),
  badShape(
    "p of another length",
    { p: normal([7, 10]) },
    '"p" has shape [7, 10], expected [k_len=12, num_heads*d_head=10]',
  ),
  badShape(
    "v of another shape",
    { v: normal([5, 2]) },
    '"v" has shape [5, 2], expected [num_heads=2, d_head=5]',
  ),
  badShape("u of one axis", { u: normal([10]) }, '"u" has shape [10], expected [num_heads, d_head]'),
  badValue("lag that blocks a whole row", { blockedLag: -5 }, '"blocked_lag" is -5, expected -4 to'),
  badValue("dropout 1", { dropout: 1 }, '"dropout" is 1'),
  badShape(
    "lse of another shape",
    { lse: normal([2, 3, 7]) },
    '"lse" has shape [2, 3, 7], expected [batch=3, num_heads=2, q_len=7]',
  ),
  badShape("out of another shape", { out: normal([12, 3, 10]) }, '"out" has shape [12, 3, 10]'),
] as const;

const forward = opCases({
  op: "relAttention",
  cases,
  args: (sizes: Sizes) => {
    const { qLen, batch, heads } = sizes;
    const { q, ...rest } = inputs(sizes);
    return { q, ...rest, out: output(q.shape), lse: output([batch, heads, qLen]), ...scalars(sizes) };
  },
  tolerance: ({ kLen, dHead }) => reduction(kLen + dHead),
  oracle: (of) => attend(of),
  bad: badShapes,
});

const backward = opCases({
  op: "relAttentionBackward",
  cases,
  args: (sizes: Sizes) => {
    const { q, kv, p, u, v } = inputs(sizes);
    const drawnInputs = { q: drawn(q), kv: drawn(kv), p: drawn(p), u: drawn(u), v: drawn(v) };
    const { out, lse } = attend({ ...drawnInputs, ...scalars(sizes) });
    const { qLen, batch, heads } = sizes;
    return {
      dOut: normal(q.shape),
      q: floats(q.shape, drawnInputs.q.data),
      kv: floats(kv.shape, drawnInputs.kv.data),
      p: floats(p.shape, drawnInputs.p.data),
      u: floats(u.shape, drawnInputs.u.data),
      v: floats(v.shape, drawnInputs.v.data),
      out: floats(q.shape, out.map(Math.fround)),
      lse: floats([batch, heads, qLen], lse.map(Math.fround)),
      dQ: output(q.shape),
      dKv: output(kv.shape),
      dP: output(p.shape),
      dU: normal(u.shape),
      dV: normal(v.shape),
      ...scalars(sizes),
    };
  },
  tolerance: ({ qLen, kLen, batch, dHead }) => reduction(batch * qLen * kLen + dHead, 1),
  oracle: ({ dOut, out, lse, dQ, dKv, dP, dU, dV, ...of }) => {
    const a = new Attention(of);
    const { u, v } = of;
    const gradient = {
      dQ: zeros(dQ),
      dKv: zeros(dKv),
      dP: zeros(dP),
      dU: Array.from(dU.data),
      dV: Array.from(dV.data),
    };
    const width = a.heads * a.dHead;
    for (const b of range(a.batch)) {
      for (const h of range(a.heads)) {
        const scores = a.scores(b, h);
        for (const i of range(a.qLen)) {
          const dO = (d: number): number => dOut.at(i, b, h * a.dHead + d);
          const probability = scores[i]!.map((score) => Math.exp(score - lse.at(b, h, i)));
          const dA = range(a.kLen).map(
            (j) => a.factor(b, h, i, j) * sumOf(a.dHead, (d) => dO(d) * a.value(j, b, h, d)),
          );
          // Σ_j A·dA = ⟨dO, O⟩
          const expected = sumOf(a.dHead, (d) => dO(d) * out.at(i, b, h * a.dHead + d));
          for (const j of range(a.kLen)) {
            if (a.blocked(i, j)) continue;
            const dScore = (probability[j]! * (dA[j]! - expected)) / Math.sqrt(a.dHead);
            const c = a.positionOf(i, j);
            for (const d of range(a.dHead)) {
              const hd = h * a.dHead + d;
              const [key, p, q] = [a.key(j, b, h, d), a.p(c, h, d), a.q(i, b, h, d)];
              gradient.dQ[(i * a.batch + b) * width + hd]! += dScore * (key + p);
              gradient.dU[hd]! += dScore * key;
              gradient.dV[hd]! += dScore * p;
              gradient.dKv[(j * a.batch + b) * 2 * width + hd]! += dScore * (q + u.at(h, d));
              gradient.dKv[(j * a.batch + b) * 2 * width + width + hd]! +=
                probability[j]! * a.factor(b, h, i, j) * dO(d);
              gradient.dP[c * width + hd]! += dScore * (q + v.at(h, d));
            }
          }
        }
      }
    }
    return gradient;
  },
  bad: [
    ...badShapes,
    badShape("d_out of another shape", { dOut: normal([7, 3, 9]) }, '"d_out" has shape [7, 3, 9]'),
    badShape("d_q of another shape", { dQ: output([7, 3, 9]) }, '"d_q" has shape [7, 3, 9]'),
    badShape("d_kv of another shape", { dKv: output([12, 3, 10]) }, '"d_kv" has shape [12, 3, 10]'),
    badShape("d_p of another shape", { dP: output([11, 10]) }, '"d_p" has shape [11, 10]'),
    badShape("d_u of another shape", { dU: normal([10]) }, '"d_u" has shape [10]'),
    badShape("d_v of another shape", { dV: normal([5, 2]) }, '"d_v" has shape [5, 2]'),
  ],
});

const small = inputs({ qLen: 3, kLen: 5, batch: 2, heads: 2, dHead: 2 });
const attention = (t: Tensors, options: Parameters<typeof relAttention>[5] = {}) =>
  relAttention(t.float("q"), t.float("kv"), t.float("p"), t.float("u"), t.float("v"), options);

const gradients: GradientCase[] = [
  { name: "with memory", inputs: small, forward: (t) => attention(t) },
  {
    name: "without memory",
    inputs: inputs({ qLen: 4, kLen: 4, batch: 1, heads: 1, dHead: 3 }),
    forward: (t) => attention(t),
  },
  { name: "same length", inputs: small, forward: (t) => attention(t, { blockedLag: 1 }) },
  {
    name: "dropout",
    inputs: small,
    forward: (t) => attention(t, { dropout: { probability: 0.4, seed: 6, call: 2 }, blockedLag: 2 }),
  },
  {
    name: "keys and values of concatenated memory and hidden states",
    inputs: {
      q: small.q,
      p: small.p,
      u: small.u,
      v: small.v,
      memory: normal([2, 2, 3]),
      hidden: normal([3, 2, 3]),
      weight: normal([8, 3]),
    },
    forward: (t) => {
      const kv = linear(concatRows([t.float("memory"), t.float("hidden")]), t.float("weight"));
      return relAttention(t.float("q"), kv, t.float("p"), t.float("u"), t.float("v"));
    },
  },
  {
    name: "only q trained",
    inputs: { q: small.q },
    constants: { kv: small.kv, p: small.p, u: small.u, v: small.v },
    forward: (t) => attention(t),
  },
];

export default { ops: [forward, backward], gradients } satisfies Family;
