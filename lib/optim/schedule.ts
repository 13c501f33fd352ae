/**
 * Learning-rate schedules: the rate of the next update as a function of the updates completed so far.
 *
 * `t` below is that number, 0 before the first update; `w` is `warmupSteps`. Warm-up is linear: update t + 1
 * uses lr · (t + 1) / w while t < w. With `referenceQuirks` the schedules reproduce the published training
 * script, whose warm-up is off by one and, for `constant`, never reaches the full rate.
 */

import { ConfigError } from "../errors.js";

export type LrSchedule = (completedUpdates: number) => number;

export interface LrScheduleOptions {
  /** Peak learning rate (for `invSqrt` the factor before t^-1/2). */
  readonly lr: number;
  /** Updates of linear warm-up; default 0. */
  readonly warmupSteps?: number;
  /** Compute the rates of the published script, defects included; default false. */
  readonly referenceQuirks?: boolean;
}

export interface CosineOptions extends LrScheduleOptions {
  /** Updates after which the rate has fallen to `minLr`. */
  readonly maxSteps: number;
  /** Lowest rate; default 0. */
  readonly minLr?: number;
}

/**
 * Half a cosine from `lr` to `minLr`, after the warm-up; constant at `minLr` from `maxSteps` on.
 *
 *     lr_t = minLr + (lr − minLr) (1 + cos(π (t − w) / (maxSteps − w))) / 2
 *
 * Quirks: the first update uses the full rate, the ramp is lr · t / w, and the cosine runs over t / maxSteps
 * from the start, unclamped.
 */
export function cosineLr(options: CosineOptions): LrSchedule {
  const { lr, maxSteps, minLr = 0, warmupSteps: w = 0, referenceQuirks = false } = options;
  checkCommon(options);
  check(
    "maxSteps",
    maxSteps,
    Number.isSafeInteger(maxSteps) && maxSteps > w,
    `an integer above warmupSteps (${w})`,
  );
  check("minLr", minLr, minLr >= 0 && minLr <= lr, "between 0 and lr");
  const cosine = (t: number, span: number): number =>
    minLr + ((lr - minLr) * (1 + Math.cos((Math.PI * t) / span))) / 2;
  if (referenceQuirks) return (t) => (t > 0 && t < w ? (lr * t) / w : cosine(t, maxSteps));
  return (t) => (t < w ? (lr * (t + 1)) / w : cosine(Math.min(t, maxSteps) - w, maxSteps - w));
}

/**
 * Inverse square root of the update number, u = t + 1, after the warm-up.
 *
 *     lr_t = lr · u / w^1.5  if u ≤ w,   lr · u^-1/2  otherwise
 *
 * Quirks: u = t, so with a warm-up the first update has rate 0.
 */
export function invSqrtLr(options: LrScheduleOptions): LrSchedule {
  const { lr, warmupSteps: w = 0, referenceQuirks = false } = options;
  checkCommon(options);
  const multiplier = (u: number): number => (u === 0 && w === 0 ? 1 : u > w ? 1 / u ** 0.5 : u / w ** 1.5);
  return (t) => lr * multiplier(referenceQuirks ? t : t + 1);
}

/** `lr` after the warm-up. Quirks: the first update uses `lr`, then the ramp stops at lr · (w − 1) / w for ever. */
export function constantLr(options: LrScheduleOptions): LrSchedule {
  const { lr, warmupSteps: w = 0, referenceQuirks = false } = options;
  checkCommon(options);
  return (t) => lr * warmup(t, w, referenceQuirks);
}

export interface PlateauOptions extends LrScheduleOptions {
  /** Factor applied at a plateau, in (0, 1); default 0.5. */
  readonly decayRate?: number;
  /** Evaluations in a row without improvement that are tolerated; default 0. */
  readonly patience?: number;
  /** Lowest rate; default 0. */
  readonly minLr?: number;
}

/** What {@link PlateauLr} remembers: plain JSON, to be saved with a checkpoint. */
export interface PlateauState {
  /** Current rate after warm-up. */
  readonly lr: number;
  /** Lowest validation loss so far; null before the first evaluation. */
  readonly bestLoss: number | null;
  /** Evaluations since `bestLoss`. */
  readonly badEvaluations: number;
}

/**
 * The `dev_perf` schedule: `lr` falls by `decayRate`, not below `minLr`, when more than `patience` evaluations in a
 * row have not lowered the validation loss. Warm-up as in {@link constantLr}.
 */
export class PlateauLr {
  /** Assign a saved state to resume. */
  state: PlateauState;

  constructor(private readonly options: PlateauOptions) {
    const { lr, decayRate = 0.5, patience = 0, minLr = 0 } = options;
    checkCommon(options);
    check("decayRate", decayRate, decayRate > 0 && decayRate < 1, "between 0 and 1");
    check("patience", patience, Number.isSafeInteger(patience) && patience >= 0, "an integer >= 0");
    check("minLr", minLr, minLr >= 0 && minLr <= lr, "between 0 and lr");
    this.state = { lr, bestLoss: null, badEvaluations: 0 };
  }

  /** Learning rate of the next update after `completedUpdates`. */
  rate(completedUpdates: number): number {
    const { warmupSteps = 0, referenceQuirks = false } = this.options;
    return this.state.lr * warmup(completedUpdates, warmupSteps, referenceQuirks);
  }

  /** Takes the result of an evaluation, in nats; NaN counts as no improvement. */
  evaluated(validationLoss: number): void {
    const { decayRate = 0.5, patience = 0, minLr = 0 } = this.options;
    const { lr, bestLoss, badEvaluations } = this.state;
    if (validationLoss < (bestLoss ?? Infinity)) {
      this.state = { lr, bestLoss: validationLoss, badEvaluations: 0 };
    } else if (badEvaluations < patience) {
      this.state = { lr, bestLoss, badEvaluations: badEvaluations + 1 };
    } else {
      this.state = { lr: Math.max(minLr, lr * decayRate), bestLoss, badEvaluations: 0 };
    }
  }
}

/** Warm-up factor of `constant` and `dev_perf`. */
function warmup(t: number, w: number, referenceQuirks: boolean): number {
  if (w === 0) return 1;
  if (!referenceQuirks) return Math.min(1, (t + 1) / w);
  return t === 0 ? 1 : Math.min(t, w - 1) / w;
}

function checkCommon({ lr, warmupSteps = 0 }: LrScheduleOptions): void {
  check("lr", lr, Number.isFinite(lr) && lr > 0, "a positive number");
  check("warmupSteps", warmupSteps, Number.isSafeInteger(warmupSteps) && warmupSteps >= 0, "an integer >= 0");
}

function check(key: string, value: unknown, ok: boolean, expected: string): void {
  if (!ok)
    throw new ConfigError(
      key,
      value,
      `${key} is ${String(value)}, expected ${expected}`,
      `set ${key} to ${expected}`,
    );
}
