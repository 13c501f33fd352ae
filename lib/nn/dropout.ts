import { dropout, type Dropout as DropoutCall, noDropout } from "../ops/dropout.js";
import { checkProbability } from "../options.js";
import type { RandomStream } from "../random.js";
import type { FloatTensor, Shape } from "../tensor.js";
import { Module } from "./module.js";

/** Drops elements with one probability while training. All modules of a model share its `dropout` stream. */
export class Dropout extends Module {
  readonly #stream: RandomStream;

  constructor(
    /** In [0, 1). */
    readonly probability: number,
    stream: RandomStream,
  ) {
    super();
    checkProbability("dropout", probability);
    this.#stream = stream;
  }

  /** The dropout of the next op call; none outside of training. */
  next(): DropoutCall {
    if (!this.training || this.probability === 0) return noDropout;
    return { probability: this.probability, ...this.#stream.next() };
  }

  forward<S extends Shape>(x: FloatTensor<S>): FloatTensor<S> {
    const options = this.next();
    return options.probability === 0 ? x : dropout(x, options);
  }
}
