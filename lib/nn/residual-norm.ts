import { combine, type RoutedRows } from "../ops/dispatch.js";
import { dropout } from "../ops/dropout.js";
import { layerNorm } from "../ops/layer-norm.js";
import { type FloatTensor, Tensor } from "../tensor.js";
import type { Dropout } from "./dropout.js";
import { Initializer } from "./initializer.js";
import { LayerNorm } from "./layer-norm.js";

export interface ResidualNormOptions {
  /** Size of the last axis. */
  d: number;
  /** Normalise the branch's input instead of the sum. Default false. */
  preNorm?: boolean;
  /** Applied to the branch's output. */
  dropout: Dropout;
}

/**
 * The residual connection and layer norm around a branch F:
 *
 *     post-norm: y = LN(x + dropout(F(x)))        pre-norm: y = x + dropout(F(LN(x)))
 *
 * @example const y = norm.output(x, branch.forward(norm.input(x)));
 */
export class ResidualNorm extends LayerNorm {
  readonly preNorm: boolean;
  readonly dropout: Dropout;

  constructor({ d, preNorm = false, dropout }: ResidualNormOptions, init = new Initializer()) {
    super({ d }, init);
    this.preNorm = preNorm;
    this.dropout = dropout;
  }

  /** What the branch gets. */
  input(x: FloatTensor): FloatTensor {
    return this.preNorm ? this.forward(x) : x;
  }

  /** Joins the branch's output with x; post-norm sums routed rows as it does so. */
  output(x: FloatTensor, branch: FloatTensor | RoutedRows): FloatTensor {
    const options = this.dropout.next();
    if (this.preNorm) return dropout(branch instanceof Tensor ? branch : combine(branch), options, x);
    return layerNorm(x, branch, this.weight.value, this.bias.value, { dropout: options });
  }
}
