import { ConfigError } from "../errors.js";
import { checkInteger } from "../options.js";

/** How the next token is drawn from the scores of the vocabulary. */
export interface SamplingOptions {
  /** Divides the logits: below 1 bolder, 0 always takes the likeliest token. Default 1. */
  temperature?: number;
  /** Draws among the likeliest `topTokens` only. Default: all. */
  topTokens?: number;
  /** Draws among the likeliest tokens that together have this probability (Holtzman et al. 2020). Default 1: all. */
  topP?: number;
}

/** @throws {ConfigError} naming the option that is out of range. */
export function checkSampling({ temperature = 1, topTokens = Infinity, topP = 1 }: SamplingOptions): void {
  if (!(temperature >= 0 && temperature < Infinity))
    throw outOfRange("temperature", temperature, "0 or more");
  if (topTokens !== Infinity) checkInteger("topTokens", topTokens, 1);
  if (!(topP > 0 && topP <= 1)) throw outOfRange("topP", topP, "more than 0 and at most 1");
}

/**
 * Draws an index from `softmax(logits / temperature)`, cut to the likeliest `topTokens`, then to `topP` of their
 * probability. Of equal logits the lower index counts as likelier.
 *
 * @param logits Finite numbers.
 * @param u Uniform in [0, 1); decides the draw.
 */
export function sample(
  logits: ArrayLike<number>,
  u: number,
  { temperature = 1, topTokens = Infinity, topP = 1 }: SamplingOptions = {},
): number {
  const best = likeliest(logits);
  if (temperature === 0) return best;
  const most = logits[best] ?? 0;
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - most) / temperature));
  keepLikeliest(weights, topTokens, topP);
  let left = u * weights.reduce((sum, weight) => sum + weight, 0);
  let drawn = best;
  for (const [id, weight] of weights.entries()) {
    if (weight === 0) continue;
    drawn = id;
    left -= weight;
    if (left < 0) break;
  }
  return drawn;
}

function likeliest(logits: ArrayLike<number>): number {
  let best = 0;
  for (let id = 1; id < logits.length; id += 1) if (logits[id]! > logits[best]!) best = id;
  return best;
}

/** Sets all but the largest weights to 0. */
function keepLikeliest(weights: Float64Array, topTokens: number, topP: number): void {
  if (topTokens >= weights.length && topP === 1) return;
  const falling = weights.toSorted().reverse();
  const kept = falling.subarray(0, topTokens);
  const mass = topP * kept.reduce((sum, weight) => sum + weight, 0);
  let count = 0;
  for (let sum = 0; count < kept.length && (count === 0 || sum < mass); count += 1) sum += kept[count]!;
  const least = kept[count - 1]!;
  let equal = count - falling.findIndex((weight) => weight === least);
  for (const [id, weight] of weights.entries()) {
    if (weight > least) continue;
    if (weight < least || equal <= 0) weights[id] = 0;
    else equal -= 1;
  }
}

function outOfRange(key: string, value: number, range: string): ConfigError {
  return new ConfigError(key, value, `"${key}" is ${String(value)}`, `use ${range}`);
}
