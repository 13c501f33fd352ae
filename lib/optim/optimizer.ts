import { ConfigError } from "../errors.js";
import { clipFactor } from "../ops/reduce.js";
import { adagrad, adam, sgd } from "../ops/optim.js";
import type { Parameter } from "../nn/parameter.js";
import { rejectUnknownKeys } from "../options.js";
import { scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";
import { Arena, type Range } from "./arena.js";

/** Parameters that share settings. */
export interface ParameterGroup {
  parameters: readonly Parameter[];
  /** Factor on the learning rate. Default 1. */
  lrScale?: number;
  /** Replaces the optimiser's weight decay. */
  weightDecay?: number;
}

/** A gradient norm and the factor that clips it, on the device. */
export interface Clip {
  norm: FloatTensor<[1]>;
  factor: FloatTensor<[1]>;
}

/** One update of one range of the arena. */
interface Update {
  param: FloatTensor;
  grad: FloatTensor;
  /** The range of each state buffer. */
  state: readonly FloatTensor[];
  gradScale: FloatTensor | null;
  lr: number;
  weightDecay: number;
  /** Number of this update, counted from 1. */
  step: number;
}

/**
 * Base of the optimisers. Construction moves the trainable parameters into one flat {@link Arena}; parameters
 * frozen later are skipped from then on, with their state left as it is.
 */
export abstract class Optimizer {
  readonly arena: Arena;
  /** Buffers of the arena's size, in the order of {@link stateNames}. */
  readonly state: readonly FloatTensor<[number]>[];
  /** Updates done so far. */
  updates = 0;
  readonly #groups: readonly ParameterGroup[];

  /**
   * @param parameters Parameters, or groups of them. Frozen ones are left out.
   * @param stateNames What each state buffer holds, for checkpoints: `m`, `v`, ...
   */
  protected constructor(
    parameters: readonly Parameter[] | readonly ParameterGroup[],
    readonly stateNames: readonly string[],
    private readonly weightDecay: number,
  ) {
    this.#groups = groupsOf(parameters).map((group) => ({
      ...group,
      parameters: group.parameters.filter((parameter) => parameter.trainable),
    }));
    this.arena = new Arena(this.#groups.flatMap((group) => group.parameters));
    this.state = stateNames.map(() => this.arena.zeros());
  }

  /**
   * Measures the gradients, and says how to clip them: pass the result to {@link update}.
   *
   * @param maxNorm Largest global L2 norm; 0: no clipping.
   * @returns the norm before clipping and the factor to clip with, each `[1]`, on the device. They belong to the
   *   current scope, or are the caller's to dispose.
   */
  clip(maxNorm: number): Clip {
    this.arena.checkOwnership();
    return clipFactor([this.arena.gradients], maxNorm);
  }

  /** Updates the trainable parameters, then zeroes the gradients. */
  update(lr: number, clip?: Clip): void {
    this.arena.checkOwnership();
    this.updates += 1;
    scope(() => {
      for (const { parameters, lrScale = 1, weightDecay = this.weightDecay } of this.#groups) {
        for (const range of this.arena.trainableRanges(parameters)) {
          this.updateRange({
            param: part(this.arena.values, range),
            grad: part(this.arena.gradients, range),
            state: this.state.map((buffer) => part(buffer, range)),
            gradScale: clip?.factor ?? null,
            lr: lr * lrScale,
            weightDecay,
            step: this.updates,
          });
        }
        for (const parameter of parameters) if (parameter.trainable) parameter.changed();
      }
    });
    this.arena.zeroGradients();
  }

  /**
   * What the optimiser remembers of one parameter, by {@link stateNames}: views in the parameter's shape that belong
   * to the current scope. Empty for a parameter that it does not update.
   */
  stateOf(parameter: Parameter): [name: string, state: FloatTensor][] {
    if (!this.arena.has(parameter)) return [];
    const { begin } = this.arena.place(parameter);
    return this.stateNames.map((name, i) => {
      const buffer = this.state[i] as FloatTensor<[number]>;
      return [name, buffer.view(parameter.shape, begin)];
    });
  }

  /** Queues the op that updates one range. */
  protected abstract updateRange(update: Update): void;

  /** Frees the state. The parameters stay usable: they keep the arena's memory alive. */
  dispose(): void {
    for (const buffer of this.state) buffer.dispose();
    this.arena.dispose();
  }
}

function part(buffer: FloatTensor, { begin, end }: Range): FloatTensor {
  return buffer.view([end - begin], begin);
}

function groupsOf(parameters: readonly Parameter[] | readonly ParameterGroup[]): readonly ParameterGroup[] {
  const isGroup = (item: Parameter | ParameterGroup): item is ParameterGroup => "parameters" in item;
  if (parameters.every(isGroup)) return parameters;
  return [{ parameters }];
}

/** @throws {ConfigError} unless `value` is a finite number with `low <= value` and `value < high`. */
function inRange(key: string, value: number, low: number, high = Infinity): number {
  if (value >= low && value < high) return value;
  throw new ConfigError(
    key,
    value,
    `"${key}" is ${String(value)}`,
    `use ${String(low)} <= ${key}${high === Infinity ? "" : ` < ${String(high)}`}`,
  );
}

export interface AdamOptions {
  /** Decay of the first moment. Default 0.9. */
  beta1?: number;
  /** Decay of the second moment. Default 0.999. */
  beta2?: number;
  /** Default 1e-8. */
  eps?: number;
  /** Default 0. */
  weightDecay?: number;
}

/** Adam with bias correction (Kingma and Ba 2015). Weight decay is L2: it is added to the gradient. */
export class Adam extends Optimizer {
  protected readonly decoupled: boolean = false;
  readonly #beta1: number;
  readonly #beta2: number;
  readonly #eps: number;

  constructor(parameters: readonly Parameter[] | readonly ParameterGroup[], options: AdamOptions = {}) {
    rejectUnknownKeys(options, ["beta1", "beta2", "eps", "weightDecay"]);
    const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0 } = options;
    super(parameters, ["m", "v"], inRange("weightDecay", weightDecay, 0));
    this.#beta1 = inRange("beta1", beta1, 0, 1);
    this.#beta2 = inRange("beta2", beta2, 0, 1);
    this.#eps = inRange("eps", eps, 0);
  }

  protected updateRange({ param, grad, state, gradScale, lr, weightDecay, step }: Update): void {
    const [m, v] = state as [FloatTensor, FloatTensor];
    adam(param, grad, m, v, gradScale, {
      lr,
      beta1: this.#beta1,
      beta2: this.#beta2,
      eps: this.#eps,
      weightDecay,
      decoupled: this.decoupled,
      step,
    });
  }
}

/** Adam with decoupled weight decay (Loshchilov and Hutter 2019). Default weight decay 0.01. */
export class AdamW extends Adam {
  protected override readonly decoupled = true;

  constructor(parameters: readonly Parameter[] | readonly ParameterGroup[], options: AdamOptions = {}) {
    super(parameters, { weightDecay: 0.01, ...options });
  }
}

export interface SgdOptions {
  /** Default 0. */
  momentum?: number;
  /** Default 0. */
  weightDecay?: number;
  /** Default false. */
  nesterov?: boolean;
}

/** Stochastic gradient descent with momentum. */
export class Sgd extends Optimizer {
  readonly #momentum: number;
  readonly #nesterov: boolean;

  constructor(parameters: readonly Parameter[] | readonly ParameterGroup[], options: SgdOptions = {}) {
    rejectUnknownKeys(options, ["momentum", "weightDecay", "nesterov"]);
    const { momentum = 0, weightDecay = 0, nesterov = false } = options;
    super(parameters, momentum > 0 ? ["momentum"] : [], inRange("weightDecay", weightDecay, 0));
    this.#momentum = inRange("momentum", momentum, 0, 1);
    this.#nesterov = nesterov;
  }

  protected updateRange({ param, grad, state, gradScale, lr, weightDecay }: Update): void {
    sgd(param, grad, state[0] ?? null, gradScale, {
      lr,
      momentum: this.#momentum,
      weightDecay,
      nesterov: this.#nesterov,
    });
  }
}

export interface AdagradOptions {
  /** Default 1e-10. */
  eps?: number;
  /** Default 0. */
  weightDecay?: number;
}

/** Adagrad (Duchi et al. 2011). */
export class Adagrad extends Optimizer {
  readonly #eps: number;

  constructor(parameters: readonly Parameter[] | readonly ParameterGroup[], options: AdagradOptions = {}) {
    rejectUnknownKeys(options, ["eps", "weightDecay"]);
    const { eps = 1e-10, weightDecay = 0 } = options;
    super(parameters, ["sum"], inRange("weightDecay", weightDecay, 0));
    this.#eps = inRange("eps", eps, 0);
  }

  protected updateRange({ param, grad, state, gradScale, lr, weightDecay }: Update): void {
    const [sum] = state as [FloatTensor];
    adagrad(param, grad, sum, gradScale, { lr, eps: this.#eps, weightDecay });
  }
}
