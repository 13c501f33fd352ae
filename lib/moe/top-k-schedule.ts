/**
 * Schedules of the number of experts per token, k, over training (SMoE-Dropout, HyperRouter).
 *
 * With `t` completed updates, S = `steps` and [a, z] = [`min`, `max`], rounding half to even and clipping to [a, z]:
 *
 *     linear_increase      rnd((z − a) t / S) + a
 *     linear_decrease      rnd((a − z) t / S) + z
 *     cosine_decrease      rnd((z − a) cos(π t / 2S)) + a
 *     cosine_increase      rnd((a − z) cos(π t / 2S)) + z
 *     exp_increase         rnd((a − z) 0.99^⌊t / ⌊S / 300⌋⌋) + z        S ≥ 300
 *     multi_step_increase  [1, 2, 4, 8, 16] at ⌊5 t / S⌋
 *     multi_step_decrease  [16, 8, 4, 2, 1] at ⌊5 t / S⌋
 *
 * From t = S on, k keeps the value of S (the last entry of a list).
 */

import { ConfigError, ValueError } from "../errors.js";

const DOUBLING = [1, 2, 4, 8, 16];
const HALVING = [16, 8, 4, 2, 1];

type Formula = (t: number, steps: number, min: number, max: number) => number;

const FORMULAS = {
  linear_increase: (t, steps, min, max) => roundHalfEven(((max - min) * t) / steps) + min,
  linear_decrease: (t, steps, min, max) => roundHalfEven(((min - max) * t) / steps) + max,
  cosine_decrease: (t, steps, min, max) => roundHalfEven((max - min) * quarterCosine(t, steps)) + min,
  cosine_increase: (t, steps, min, max) => roundHalfEven((min - max) * quarterCosine(t, steps)) + max,
  exp_increase: (t, steps, min, max) =>
    roundHalfEven((min - max) * 0.99 ** Math.floor(t / Math.floor(steps / 300))) + max,
  multi_step_increase: (t, steps) => DOUBLING[Math.floor((5 * t) / steps)] ?? 16,
  multi_step_decrease: (t, steps) => HALVING[Math.floor((5 * t) / steps)] ?? 1,
} satisfies Record<string, Formula>;

export type TopKMode = keyof typeof FORMULAS;

/** Every schedule by its published name. */
export const topKModes = Object.keys(FORMULAS) as TopKMode[];

export interface TopKScheduleOptions {
  readonly mode: TopKMode;
  /** Smallest k, at least 1. */
  readonly min: number;
  /** Largest k, at most the number of experts. */
  readonly max: number;
  /** Updates over which k changes. */
  readonly steps: number;
  /**
   * From `steps` on, do what the published script does: no clamping of t, so the cosine modes swing back after
   * 3 · `steps`, and the multi-step modes fail. Default false.
   */
  readonly referenceQuirks?: boolean;
}

/**
 * k of the next update as a function of the updates completed so far.
 *
 * @throws {ConfigError} if an option is out of range.
 * @example topKSchedule({ mode: "linear_increase", min: 8, max: 16, steps: 400_000 })(25_001) // 9
 */
export function topKSchedule(options: TopKScheduleOptions): (completedUpdates: number) => number {
  const { mode, min, max, steps, referenceQuirks = false } = options;
  const formula: Formula | undefined = Object.hasOwn(FORMULAS, mode) ? FORMULAS[mode] : undefined;
  if (formula === undefined) throw outOfRange("mode", mode, `one of ${topKModes.join(", ")}`);
  if (!isPositiveInteger(min)) throw outOfRange("min", min, "an integer >= 1");
  if (!isPositiveInteger(max) || max < min) throw outOfRange("max", max, `an integer >= min (${min})`);
  const leastSteps = mode === "exp_increase" ? 300 : 1;
  if (!isPositiveInteger(steps) || steps < leastSteps) {
    throw outOfRange("steps", steps, `an integer >= ${leastSteps} for ${mode}`);
  }
  return (completedUpdates) => {
    if (referenceQuirks && completedUpdates >= steps && mode.startsWith("multi_step")) {
      const reason = `${mode} is undefined from update ${steps} on, asked for ${completedUpdates}`;
      throw new ValueError(
        "topKSchedule",
        "completedUpdates",
        reason,
        "train for fewer updates or turn referenceQuirks off",
      );
    }
    const t = referenceQuirks ? completedUpdates : Math.min(completedUpdates, steps);
    return Math.min(max, Math.max(min, formula(t, steps, min, max)));
  };
}

/** Nearest integer, ties to the even one. */
function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  const fraction = x - low;
  if (fraction !== 0.5) return fraction < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

function quarterCosine(t: number, steps: number): number {
  return Math.cos((Math.PI * t) / (2 * steps));
}

function isPositiveInteger(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

function outOfRange(key: string, value: unknown, expected: string): ConfigError {
  return new ConfigError(
    key,
    value,
    `top-k schedule: ${key} is ${String(value)}, expected ${expected}`,
    `set ${key} to ${expected}`,
  );
}
