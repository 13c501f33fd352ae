import { native } from "../native.js";
import type { FloatTensor } from "../tensor.js";

/** Scalars of one Adam update (Kingma and Ba 2015; decoupled decay: Loshchilov and Hutter 2019). */
export interface AdamStep {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** Decay the parameter itself (AdamW) instead of adding to the gradient (L2). */
  decoupled: boolean;
  /** Number of this update, counted from 1. */
  step: number;
}

/** One pass over a flat range: updates `param`, `m` and `v` in place from `grad · gradScale[0]`. */
export function adam(
  param: FloatTensor,
  grad: FloatTensor,
  m: FloatTensor,
  v: FloatTensor,
  gradScale: FloatTensor | null,
  { lr, beta1, beta2, eps, weightDecay, decoupled, step }: AdamStep,
): void {
  native().ops.adam(
    param.handle,
    grad.handle,
    m.handle,
    v.handle,
    gradScale?.handle ?? null,
    lr,
    beta1,
    beta2,
    eps,
    weightDecay,
    decoupled,
    step,
  );
}

/** Scalars of one SGD update. */
export interface SgdStep {
  lr: number;
  momentum: number;
  weightDecay: number;
  nesterov: boolean;
}

/** Updates `param` and `momentumBuffer` (needed when momentum is not 0) in place. */
export function sgd(
  param: FloatTensor,
  grad: FloatTensor,
  momentumBuffer: FloatTensor | null,
  gradScale: FloatTensor | null,
  { lr, momentum, weightDecay, nesterov }: SgdStep,
): void {
  native().ops.sgd(
    param.handle,
    grad.handle,
    momentumBuffer?.handle ?? null,
    gradScale?.handle ?? null,
    lr,
    momentum,
    weightDecay,
    nesterov,
  );
}

/** Scalars of one Adagrad update (Duchi et al. 2011). */
export interface AdagradStep {
  lr: number;
  eps: number;
  weightDecay: number;
}

/** Updates `param` and the running sum of squares in place. */
export function adagrad(
  param: FloatTensor,
  grad: FloatTensor,
  sum: FloatTensor,
  gradScale: FloatTensor | null,
  { lr, eps, weightDecay }: AdagradStep,
): void {
  native().ops.adagrad(
    param.handle,
    grad.handle,
    sum.handle,
    gradScale?.handle ?? null,
    lr,
    eps,
    weightDecay,
  );
}
