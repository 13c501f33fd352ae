import type { Memory } from "../nn/transformer-xl.js";

/** Frees the hidden states of a memory. */
export function disposeMemory(memory: Memory | null | undefined): void {
  for (const hidden of memory ?? []) hidden.dispose();
}
