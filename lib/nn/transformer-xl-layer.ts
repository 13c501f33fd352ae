import { ValueError } from "../errors.js";
import { MoELayer } from "../moe/moe-layer.js";
import type { Router, Routing } from "../moe/router.js";
import type { FloatTensor } from "../tensor.js";
import type { Dropout } from "./dropout.js";
import { FeedForward } from "./feed-forward.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import { RelativeAttention, type RelativePositions } from "./relative-attention.js";
import { ResidualNorm } from "./residual-norm.js";

export interface TransformerXLLayerOptions {
  dModel: number;
  numHeads: number;
  dHead: number;
  /** Width of the hidden layer of the feed-forward network, or of each expert. */
  dInner: number;
  /** Number of experts; null for a dense feed-forward network. */
  numExperts: number | null;
  preNorm?: boolean;
  dropout: Dropout;
  /** Applied to attention probabilities. */
  attentionDropout: Dropout;
}

/** Relative attention, then a feed-forward network or a mixture of experts, each with residual and layer norm. */
export class TransformerXLLayer extends Module {
  readonly attention: RelativeAttention;
  readonly attentionNorm: ResidualNorm;
  readonly feedForward: FeedForward | MoELayer;
  readonly feedForwardNorm: ResidualNorm;

  constructor(options: TransformerXLLayerOptions, init = new Initializer()) {
    super();
    const {
      dModel,
      numHeads,
      dHead,
      dInner,
      numExperts,
      preNorm = false,
      dropout,
      attentionDropout,
    } = options;
    const norm = { d: dModel, preNorm, dropout };
    this.attention = new RelativeAttention({ dModel, numHeads, dHead, dropout: attentionDropout }, init);
    this.attentionNorm = new ResidualNorm(norm, init);
    this.feedForward =
      numExperts === null
        ? new FeedForward({ dModel, dInner, dropout }, init)
        : new MoELayer({ numExperts, dModel, dInner, dropout }, init);
    this.feedForwardNorm = new ResidualNorm(norm, init);
  }

  /**
   * @param hidden `[qLen, batch, dModel]`.
   * @param memory `[m, batch, dModel]`: what this layer got in earlier segments; null for m = 0.
   * @param router This layer's router, where it has experts.
   * @returns hidden of the same shape, and the routing where the layer has experts.
   */
  forward(
    hidden: FloatTensor,
    memory: FloatTensor | null,
    relative: RelativePositions,
    router: Router | null,
  ): { hidden: FloatTensor; routing: Routing | null } {
    const attended = this.attend(hidden, memory, relative);
    const norm = this.feedForwardNorm;
    if (this.feedForward instanceof FeedForward) {
      const y = this.feedForward.forward(norm.input(attended));
      return { hidden: norm.output(attended, y), routing: null };
    }
    if (!router) throw new ValueError("TransformerXLLayer", "router", "a layer with experts got no router");
    const { y, routing } = this.feedForward.forward(attended, router, norm);
    return { hidden: y, routing };
  }

  /** The first half: attention with its residual and norm. Arguments as in {@link forward}. */
  attend(hidden: FloatTensor, memory: FloatTensor | null, relative: RelativePositions): FloatTensor {
    const norm = this.attentionNorm;
    const attended = this.attention.forward(norm.input(hidden), memory && norm.input(memory), relative);
    return norm.output(hidden, attended);
  }
}
