import { seededRandom } from "../data/random.js";
import { NonFiniteError } from "../errors.js";
import { checkInteger } from "../options.js";
import { indices } from "../tensor.js";
import { idsOf, infer, type InferenceOptions } from "./inference.js";
import { disposeMemory, type Memory } from "./memory.js";
import { checkSampling, sample, type SamplingOptions } from "./sampling.js";
import type { TransformerXL } from "./transformer-xl.js";

export interface GenerateOptions extends InferenceOptions, SamplingOptions {
  /** Most tokens to generate. Default 256. */
  maxTokens?: number;
  /** Same seed, same text: a non-negative integer. Default 0. */
  seed?: number;
  /** Ends the loop after the running token; nothing is thrown. */
  signal?: AbortSignal | undefined;
}

/** A token that was drawn. */
export interface GeneratedToken {
  id: number;
  /**
   * The text it completes; all of them together are the generated text. "" for a token that ends inside a character,
   * and always for a model without a tokenizer.
   */
  text: string;
}

const SEGMENT = 128;

/**
 * Continues a text: each token is drawn from the model's distribution given all before it, as far as its memory
 * reaches, and costs one position. Leaving the loop stops.
 *
 * @param prompt Text, or token ids; at least one token.
 * @yields each token as soon as it is drawn.
 * @throws {ConfigError} for an option out of range. @throws {ValueError} for a prompt the vocabulary lacks.
 */
export async function* generate(
  model: TransformerXL,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<GeneratedToken, void, undefined> {
  const { maxTokens = 256, seed = 0, signal } = options;
  checkInteger("maxTokens", maxTokens, 0);
  checkInteger("seed", seed, 0);
  checkSampling(options);
  const ids = idsOf(model, prompt);
  checkInteger("prompt length", ids.length, 1);
  const random = seededRandom(seed);
  const decoder = model.tokenizer?.decoder();
  for (const id of ids) decoder?.push(id);
  const past = new Past(model, options);
  try {
    let logits: ArrayLike<number> = [];
    for (let begin = 0; begin < ids.length && !signal?.aborted; begin += SEGMENT) {
      logits = await past.predict(ids.subarray(begin, begin + SEGMENT));
    }
    for (let count = 1; count <= maxTokens && !signal?.aborted; count += 1) {
      const id = sample(logits, random(), options);
      const text = decoder?.push(id) ?? "";
      yield { id, text: count < maxTokens ? text : text + (decoder?.end() ?? "") };
      if (count < maxTokens && !signal?.aborted) logits = await past.predict(Int32Array.of(id));
    }
  } finally {
    past.dispose();
  }
}

/** What a model remembers of the tokens so far. */
class Past {
  #memory: Memory | null = null;

  constructor(
    private readonly model: TransformerXL,
    private readonly options: InferenceOptions,
  ) {}

  /** Reads some more tokens. @returns the scores of the token after them. */
  async predict(ids: Int32Array): Promise<ArrayLike<number>> {
    const { model } = this;
    const { logits, memory } = infer(model, this.options, () =>
      model.predict(indices(ids, [ids.length, 1], model.device), this.#memory),
    );
    this.dispose();
    this.#memory = memory;
    const scores = await logits.data();
    logits.dispose();
    if (scores.every(Number.isFinite)) return scores;
    throw new NonFiniteError(
      0,
      "logits",
      "the model predicts NaN or infinite scores",
      "load a checkpoint from before training diverged",
    );
  }

  dispose(): void {
    disposeMemory(this.#memory);
    this.#memory = null;
  }
}
