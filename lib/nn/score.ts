import type { Tokenizer } from "../data/tokenizer.js";
import { checkInteger } from "../options.js";
import { indices } from "../tensor.js";
import { idsOf, infer, type InferenceOptions } from "./inference.js";
import { disposeMemory, type Memory } from "./memory.js";
import type { TransformerXL } from "./transformer-xl.js";

export interface ScoreOptions extends InferenceOptions {
  /** Tokens per segment; the memory is carried from one to the next. Default 128. */
  seqLen?: number;
  signal?: AbortSignal | undefined;
}

/** How well a model predicts a text. */
export interface Score {
  /** Mean negative log-likelihood per token, in nats. */
  nats: number;
  /** The same in bits. */
  bitsPerToken: number;
  /** Bits per character of the predicted text (Unicode code points); null for a model without a tokenizer. */
  bpc: number | null;
  /** Tokens predicted: all but the first. */
  tokens: number;
  /** Negative log-likelihood of each of them, in nats. */
  nll: Float64Array;
}

/**
 * Measures how well a model predicts a text, token after token.
 *
 * @param text Text, or token ids; at least two tokens, since nothing predicts the first.
 * @throws the signal's reason when aborted.
 */
export async function score(
  model: TransformerXL,
  text: string | ArrayLike<number>,
  options: ScoreOptions = {},
): Promise<Score> {
  const { seqLen = 128, signal } = options;
  checkInteger("seqLen", seqLen, 1);
  const ids = idsOf(model, text);
  checkInteger("number of tokens", ids.length, 2);
  const nll = new Float64Array(ids.length - 1);
  let memory: Memory | null = null;
  try {
    for (let begin = 0; begin < nll.length; begin += seqLen) {
      signal?.throwIfAborted();
      const end = Math.min(begin + seqLen, nll.length);
      const shape = [end - begin, 1] as const;
      const segment = infer(model, options, () => {
        const inputs = indices(ids.subarray(begin, end), shape, model.device);
        const targets = indices(ids.subarray(begin + 1, end + 1), shape, model.device);
        const result = model.loss(inputs, targets, memory);
        return { nll: result.nll, memory: result.memory };
      });
      disposeMemory(memory);
      memory = segment.memory;
      nll.set(await segment.nll.data(), begin);
      segment.nll.dispose();
    }
  } finally {
    disposeMemory(memory);
  }
  const sum = nll.reduce((total, value) => total + value, 0);
  const nats = sum / nll.length;
  return {
    nats,
    bitsPerToken: nats / Math.LN2,
    bpc: model.tokenizer && sum / Math.LN2 / charactersAfterFirst(model.tokenizer, ids),
    tokens: nll.length,
    nll,
  };
}

/** Characters that the tokens after the first complete. */
function charactersAfterFirst(tokenizer: Tokenizer, ids: Int32Array): number {
  const decoder = tokenizer.decoder();
  const pieces = [...Array.from(ids, (id) => decoder.push(id)).slice(1), decoder.end()];
  return pieces.reduce((count, piece) => count + Array.from(piece).length, 0);
}
