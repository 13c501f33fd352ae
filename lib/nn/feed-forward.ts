import type { FloatTensor } from "../tensor.js";
import type { Dropout } from "./dropout.js";
import { Initializer } from "./initializer.js";
import { Linear } from "./linear.js";
import { Module } from "./module.js";

export interface FeedForwardOptions {
  dModel: number;
  /** Width of the hidden layer. */
  dInner: number;
  /** Applied after the activation. */
  dropout: Dropout;
}

/** The dense feed-forward network `W2 · dropout(relu(W1 · x + b1)) + b2`. */
export class FeedForward extends Module {
  readonly inner: Linear;
  readonly outer: Linear;
  readonly dropout: Dropout;

  constructor({ dModel, dInner, dropout }: FeedForwardOptions, init = new Initializer()) {
    super();
    this.inner = new Linear({ dIn: dModel, dOut: dInner }, init);
    this.outer = new Linear({ dIn: dInner, dOut: dModel }, init);
    this.dropout = dropout;
  }

  /** @param x `[..., dModel]`. @returns Shape of x. */
  forward(x: FloatTensor): FloatTensor {
    return this.outer.forward(this.dropout.forward(this.inner.forward(x, "relu")));
  }
}
