import { layerNorm } from "../ops/layer-norm.js";
import type { FloatTensor, Shape } from "../tensor.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";

/** Layer normalisation over the last axis (Ba et al. 2016). Weights start as N(1, std²), biases as 0. */
export class LayerNorm extends Module {
  /** `[d]` */
  readonly weight: Parameter;
  /** `[d]` */
  readonly bias: Parameter;

  constructor({ d }: { d: number }, init = new Initializer()) {
    super();
    this.weight = init.normal([d], { mean: 1 });
    this.bias = init.zeros([d]);
  }

  /** @param x `[..., d]`. @returns Shape of x. */
  forward<S extends Shape>(x: FloatTensor<S>): FloatTensor<S> {
    return layerNorm(x, null, this.weight.value, this.bias.value);
  }
}
