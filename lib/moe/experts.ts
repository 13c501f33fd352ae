import type { Dropout } from "../nn/dropout.js";
import { Initializer } from "../nn/initializer.js";
import { Module } from "../nn/module.js";
import type { Parameter } from "../nn/parameter.js";
import type { Activation } from "../ops/activation.js";
import { combine, type RoutedRows } from "../ops/dispatch.js";
import { expertRows } from "../ops/grouped-gemm.js";
import type { FloatTensor } from "../tensor.js";
import type { Routing } from "./router.js";

export interface ExpertsOptions {
  numExperts: number;
  dModel: number;
  /** Width of an expert's hidden layer. */
  dInner: number;
  /** Applied after the activation. */
  dropout: Dropout;
  /** Default "relu". */
  activation?: Activation;
}

/** The feed-forward networks `W2 · dropout(act(W1 · x + b1)) + b2` of all experts of a layer. */
export class Experts extends Module {
  /** `[numExperts, dInner, dModel]` */
  readonly w1: Parameter;
  /** `[numExperts, dInner]` */
  readonly b1: Parameter;
  /** `[numExperts, dModel, dInner]` */
  readonly w2: Parameter;
  /** `[numExperts, dModel]` */
  readonly b2: Parameter;
  readonly dropout: Dropout;
  readonly #activation: Activation;

  constructor(options: ExpertsOptions, init = new Initializer()) {
    super();
    const { numExperts, dModel, dInner, dropout, activation = "relu" } = options;
    this.w1 = init.normal([numExperts, dInner, dModel]);
    this.b1 = init.zeros([numExperts, dInner]);
    this.w2 = init.normal([numExperts, dModel, dInner]);
    this.b2 = init.zeros([numExperts, dModel]);
    this.dropout = dropout;
    this.#activation = activation;
  }

  /**
   * Dispatches rows to experts, runs these, and combines the results per token.
   *
   * @param x `[numTokens, dModel]`.
   * @returns `[numTokens, dModel]`: for each token the weighted sum over its experts.
   */
  forward(x: FloatTensor, routing: Routing): FloatTensor<[number, number]> {
    return combine(this.rows(x, routing));
  }

  /** {@link forward}, with the sum over a token's experts left to the op that takes the rows. */
  rows(x: FloatTensor, routing: Routing): RoutedRows {
    const weights = { w1: this.w1.value, b1: this.b1.value, w2: this.w2.value, b2: this.b2.value };
    const options = { activation: this.#activation, dropout: this.dropout.next() };
    return expertRows(x, routing.expertWeights, routing, weights, options);
  }
}
