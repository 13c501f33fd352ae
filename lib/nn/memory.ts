import { concatRows } from "../ops/view.js";
import { type FloatTensor, sizeOf } from "../tensor.js";

/**
 * Past hidden states of a Transformer-XL: what entered each layer, `[m, batch, dModel]`, detached. Plain tensors, so
 * scopes pass them on; dispose a memory once the next one is there.
 */
export type Memory = readonly FloatTensor[];

/**
 * The rows of a layer's input to remember: the last `memLen` of the memory and the segment together, leaving out the
 * segment's last `extLen`, which the next segment repeats.
 *
 * @param memory `[m, batch, dModel]`, or null for m = 0.
 * @param hidden `[qLen, batch, dModel]`.
 * @returns A detached tensor, or null when there is nothing to remember.
 */
export function remember(
  memory: FloatTensor | null,
  hidden: FloatTensor,
  memLen: number,
  extLen = 0,
): FloatTensor | null {
  const [qLen = 0] = hidden.shape;
  const [m = 0] = memory?.shape ?? [];
  const end = m + Math.max(0, qLen - extLen);
  const begin = Math.max(0, end - memLen);
  const parts = [
    ...(memory ? part(memory, begin, Math.min(end, m)) : []),
    ...part(hidden, Math.max(0, begin - m), end - m),
  ];
  const [first] = parts;
  if (!first) return null;
  // A whole segment is shared, not copied; a part of it would keep the rest alive.
  return parts.length === 1 && first.size === hidden.size ? first : concatRows(parts);
}

/** Rows `begin` to `end` without gradient, if there are any. */
function part(x: FloatTensor, begin: number, end: number): FloatTensor[] {
  const [, ...rest] = x.shape;
  return end > begin ? [x.view([end - begin, ...rest], begin * sizeOf(rest))] : [];
}

/** Frees the hidden states of a memory. */
export function disposeMemory(memory: Memory | null | undefined): void {
  for (const hidden of memory ?? []) hidden.dispose();
}
