import { linear } from "../ops/gemm.js";
import { relAttention } from "../ops/rel-attention.js";
import { rows } from "../ops/view.js";
import type { FloatTensor } from "../tensor.js";
import type { Dropout } from "./dropout.js";
import { Initializer } from "./initializer.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface RelativeAttentionOptions {
  dModel: number;
  numHeads: number;
  /** Width of a head; numHeads · dHead need not be dModel. */
  dHead: number;
  /** Applied to attention probabilities. */
  dropout: Dropout;
}

/** What all layers share in one forward pass. */
export interface RelativePositions {
  /** `[kLen, dModel]`: sinusoids, farthest distance first. */
  sinusoids: FloatTensor;
  /** u, `[numHeads, dHead]` */
  contentBias: FloatTensor;
  /** v, `[numHeads, dHead]` */
  positionBias: FloatTensor;
  /** Keys this many or more positions behind the query's own are blocked. Default: none is. */
  blockedLag?: number;
}

/** Causal multi-head attention with relative positions (Transformer-XL, Dai et al. 2019), without residual. */
export class RelativeAttention extends Module {
  /** `[3 · numHeads · dHead, dModel]`: queries, keys, values. */
  readonly qkv: Linear;
  /** `[numHeads · dHead, dModel]` */
  readonly position: Linear;
  /** `[dModel, numHeads · dHead]` */
  readonly output: Linear;
  readonly dropout: Dropout;

  constructor(options: RelativeAttentionOptions, init = new Initializer()) {
    super();
    const { dModel, numHeads, dHead, dropout } = options;
    const width = numHeads * dHead;
    this.qkv = new Linear({ dIn: dModel, dOut: 3 * width, bias: false }, init);
    this.position = new Linear({ dIn: dModel, dOut: width, bias: false }, init);
    this.output = new Linear({ dIn: width, dOut: dModel, bias: false }, init);
    this.dropout = dropout;
  }

  /**
   * @param segment `[qLen, batch, dModel]`: where the queries come from.
   * @param memory `[kLen - qLen, batch, dModel]`: what can be seen before it; null for none.
   * @returns `[qLen, batch, dModel]`.
   */
  forward(segment: FloatTensor, memory: FloatTensor | null, relative: RelativePositions): FloatTensor {
    const { sinusoids, contentBias, positionBias, blockedLag = segment.shape[0] ?? 0 } = relative;
    const weight = this.qkv.weight.value;
    const width = (weight.shape[0] ?? 0) / 3;
    const q = linear(segment, rows(weight, 0, width));
    // Without pre-norm memory takes no gradient: projecting it apart spares the product that would compute one.
    const kv = linear(memory ? [memory, segment] : segment, rows(weight, width, 3 * width));
    const p = this.position.forward(sinusoids);
    const options = { blockedLag, dropout: this.dropout.next() };
    return this.output.forward(relAttention(q, kv, p, contentBias, positionBias, options));
  }
}
