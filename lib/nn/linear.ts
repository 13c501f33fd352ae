import { linear } from "../ops/gemm.js";
import type { FloatTensor } from "../tensor.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";

export interface LinearOptions {
  /** Size of the last axis of the input. */
  dIn: number;
  /** Size of the last axis of the output. */
  dOut: number;
  /** Default true. */
  bias?: boolean;
}

/** `y = x · Wᵀ + b` over the last axis. Weights start as N(0, std²), biases as 0. */
export class Linear extends Module {
  /** `[dOut, dIn]` */
  readonly weight: Parameter;
  /** `[dOut]` */
  readonly bias: Parameter | null;

  constructor({ dIn, dOut, bias = true }: LinearOptions, init = new Initializer()) {
    super();
    this.weight = init.normal([dOut, dIn]);
    this.bias = bias ? init.zeros([dOut]) : null;
  }

  /** @param x `[..., dIn]`. @param activation Fused into the product. @returns `[..., dOut]`. */
  forward(x: FloatTensor, activation: "none" | "relu" = "none"): FloatTensor {
    return linear(x, this.weight.value, this.bias?.value ?? null, activation);
  }
}
