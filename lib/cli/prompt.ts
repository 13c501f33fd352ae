import type { Tokenizer } from "../data/tokenizer.js";
import { HyperRouterError } from "../errors.js";

/** A beginning that the vocabulary has, as its tokens spell it. */
export function defaultPrompt(tokenizer: Tokenizer): string {
  for (const text of ["The ", "the ", "\n"]) {
    const ids = tryToEncode(tokenizer, text);
    if (ids.length > 0) return tokenizer.decode(ids);
  }
  return tokenizer.decode([0]);
}

function tryToEncode(tokenizer: Tokenizer, text: string): Int32Array {
  try {
    return tokenizer.encode(text);
  } catch (error) {
    if (error instanceof HyperRouterError) return new Int32Array(0);
    throw error;
  }
}
