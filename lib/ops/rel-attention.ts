import { record } from "../autograd/tape.js";
import { native } from "../native.js";
import { empty, emptyLike, type FloatTensor } from "../tensor.js";
import { type Dropout, noDropout } from "./dropout.js";
import { expectRank } from "./view.js";

/**
 * Causal multi-head attention with relative positions (Transformer-XL, Dai et al. 2019, section 3.3):
 *
 *     score[i, j] = (⟨q_i + u, k_j⟩ + ⟨q_i + v, p_(i + m - j)⟩) / sqrt(dHead),   j <= i + m,   m = kLen - qLen
 *
 * @param q `[qLen, batch, heads · dHead]`.
 * @param kv `[kLen, batch, 2 · heads · dHead]`: keys of all heads, then values.
 * @param p `[kLen, heads · dHead]`: projected sinusoids, farthest distance first.
 * @param u `[heads, dHead]` content bias. @param v `[heads, dHead]` position bias.
 * @param options.blockedLag Also blocks `j <= i - blockedLag` (the same-length mask); default: no such mask.
 * @returns `[qLen, batch, heads · dHead]`. No `[qLen, kLen]` matrix is kept: backward recomputes probabilities.
 */
export function relAttention(
  q: FloatTensor,
  kv: FloatTensor,
  p: FloatTensor,
  u: FloatTensor,
  v: FloatTensor,
  options: { blockedLag?: number; dropout?: Dropout } = {},
): FloatTensor {
  const { ops } = native();
  expectRank("relAttention", "q", q, 3);
  expectRank("relAttention", "u", u, 2);
  const { device } = q;
  const [qLen = 0, batch = 0] = q.shape;
  const [heads = 0] = u.shape;
  const { blockedLag = qLen, dropout: { probability, seed, call } = noDropout } = options;
  const out = emptyLike(q);
  const lse = empty(device.float, [batch, heads, qLen], device);
  ops.relAttention(
    q.handle,
    kv.handle,
    p.handle,
    u.handle,
    v.handle,
    out.handle,
    lse.handle,
    blockedLag,
    probability,
    seed,
    call,
  );
  record([q, kv, p, u, v], [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    const dQ = emptyLike(q);
    const dKv = emptyLike(kv);
    const dP = emptyLike(p);
    ops.relAttentionBackward(
      dOut.handle,
      q.handle,
      kv.handle,
      p.handle,
      u.handle,
      v.handle,
      out.handle,
      lse.handle,
      dQ.handle,
      dKv.handle,
      dP.handle,
      gradients.sink(u).handle,
      gradients.sink(v).handle,
      blockedLag,
      probability,
      seed,
      call,
    );
    if (gradients.wants(q)) gradients.add(q, dQ);
    if (gradients.wants(kv)) gradients.add(kv, dKv);
    if (gradients.wants(p)) gradients.add(p, dP);
  });
  return out;
}
