import type { Tokenizer } from "../data/tokenizer.js";
import { ConfigError } from "../errors.js";
import { checkInteger } from "../options.js";
import { scope } from "../scope.js";
import type { Memory } from "./memory.js";
import type { TransformerXL } from "./transformer-xl.js";

/** How a model is used outside of training. */
export interface InferenceOptions {
  /** Experts per token. Default: the model's. */
  experts?: number;
  /** Past positions that a segment sees. Default: the model's memory; 128 for a model without one. */
  memLen?: number;
}

const DEFAULT_MEMORY = 128;

/**
 * Runs `fn` in a scope, with dropout off and the options in force, and puts everything back before it returns. So
 * training and any number of generations can share a model, step by step.
 *
 * @returns What `fn` returns, its memory taken out of all scopes: dispose it once the next one is there.
 */
export function infer<T extends { memory: Memory | null }>(
  model: TransformerXL,
  { experts = model.topK, memLen = model.memLen || DEFAULT_MEMORY }: InferenceOptions,
  fn: () => T,
): T {
  checkInteger("memLen", memLen, 0);
  const before = { training: model.training, topK: model.topK, memLen: model.memLen };
  if (before.training) model.eval();
  try {
    model.setTopK(experts);
    model.memLen = memLen;
    const result = scope(fn);
    for (const hidden of result.memory ?? []) hidden.keep();
    return result;
  } finally {
    model.memLen = before.memLen;
    model.setTopK(before.topK);
    if (before.training) model.train();
  }
}

/** The model's tokenizer. @throws {ConfigError} when it has none. */
function tokenizerOf({ tokenizer }: TransformerXL): Tokenizer {
  if (tokenizer) return tokenizer;
  throw new ConfigError(
    "tokenizer",
    tokenizer,
    "the model has no tokenizer, so it takes token ids only",
    "pass ids, or set model.tokenizer, as loading a model does",
  );
}

/** Token ids of a text, or ids as they are. */
export function idsOf(model: TransformerXL, text: string | ArrayLike<number>): Int32Array {
  return typeof text === "string" ? tokenizerOf(model).encode(text) : Int32Array.from(text);
}
