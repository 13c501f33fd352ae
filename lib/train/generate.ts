import type { Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { seededRandom } from "../data/random.js";
import { checkInteger } from "../options.js";
import { scope } from "../scope.js";
import { indices } from "../tensor.js";
import { disposeMemory } from "../nn/memory.js";

export interface GenerateOptions {
  /** Most tokens to generate. Default 256. */
  maxTokens?: number;
  /** Divides the logits: below 1 bolder, 0 always takes the likeliest token. Default 1. */
  temperature?: number;
  /** Samples among the likeliest n tokens only. Default: all. */
  topTokens?: number;
  /** Same seed, same text. Default 0. */
  seed?: number;
  signal?: AbortSignal | undefined;
}

/**
 * Generates tokens one after another, with the memory carrying the past.
 *
 * @param prompt Token ids to begin with, at least one.
 * @yields each new id as soon as it is drawn.
 */
export async function* generate(
  model: TransformerXL,
  prompt: Int32Array,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  const { maxTokens = 256, temperature = 1, topTokens = Infinity, seed = 0, signal } = options;
  checkInteger("prompt length", prompt.length, 1);
  checkInteger("maxTokens", maxTokens, 0);
  const random = seededRandom(seed);
  const { training } = model;
  model.eval();
  let memory: Memory | null = null;
  let input = prompt;
  try {
    for (let count = 0; count < maxTokens && signal?.aborted !== true; count += 1) {
      const step = scope(() => model.predict(indices(input, [input.length, 1], model.device), memory));
      disposeMemory(memory);
      memory = step.memory;
      const logits = await step.logits.data();
      step.logits.dispose();
      const id = sample(logits, temperature, topTokens, random());
      yield id;
      input = Int32Array.of(id);
    }
  } finally {
    disposeMemory(memory);
    model.train(training);
  }
}

/** Draws an index from softmax(logits / temperature) over the likeliest `topTokens`. `u` is uniform in [0, 1). */
function sample(logits: ArrayLike<number>, temperature: number, topTokens: number, u: number): number {
  const order = Array.from(logits, (_, id) => id).sort(
    (a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b,
  );
  const best = order[0] ?? 0;
  if (temperature === 0) return best;
  const kept = order.slice(0, topTokens);
  const weights = kept.map((id) => Math.exp(((logits[id] ?? 0) - (logits[best] ?? 0)) / temperature));
  let left = u * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [place, id] of kept.entries()) {
    left -= weights[place] ?? 0;
    if (left < 0) return id;
  }
  return kept.at(-1) ?? best;
}
