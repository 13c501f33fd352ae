/** Sequences of tokens: what batches are cut from. */

import { ValueError } from "../errors.js";

/** A fixed sequence of token ids, in memory or in a file. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /** Every id is in [0, vocabSize). */
  readonly vocabSize: number;
  /**
   * Tokens [`offset`, `offset + count`), as a new array.
   *
   * @throws {ValueError} if the range leaves the sequence.
   */
  read(offset: number, count: number): Promise<Int32Array>;
}

/** Arrays that hold token ids in the fewest bytes. */
export type TokenArray = Uint8Array | Uint16Array | Uint32Array | Int32Array;

/** Array class for the ids of a vocabulary: u8, u16 or u32. */
export function tokenArrayOf(vocabSize: number): typeof Uint8Array | typeof Uint16Array | typeof Uint32Array {
  return vocabSize <= 2 ** 8 ? Uint8Array : vocabSize <= 2 ** 16 ? Uint16Array : Uint32Array;
}

/** Tokens in memory. */
export class MemoryTokens implements TokenSource {
  /**
   * @param ids Borrowed, not copied.
   * @throws {ValueError} if an id is outside [0, vocabSize).
   */
  constructor(
    private readonly ids: TokenArray,
    readonly vocabSize: number,
  ) {
    checkIds(ids, vocabSize, (reason) => new ValueError("MemoryTokens", "ids", reason));
  }

  /** Collects the pieces of a token stream. */
  static async collect(pieces: AsyncIterable<Int32Array>, vocabSize: number): Promise<MemoryTokens> {
    const ArrayClass = tokenArrayOf(vocabSize);
    const parts: TokenArray[] = [];
    let length = 0;
    for await (const piece of pieces) {
      parts.push(ArrayClass.from(piece));
      length += piece.length;
    }
    const ids = new ArrayClass(length);
    let offset = 0;
    for (const part of parts) {
      ids.set(part, offset);
      offset += part.length;
    }
    return new MemoryTokens(ids, vocabSize);
  }

  get length(): number {
    return this.ids.length;
  }

  async read(offset: number, count: number): Promise<Int32Array> {
    checkRange("MemoryTokens.read", offset, count, this.length);
    return Int32Array.from(this.ids.subarray(offset, offset + count));
  }
}

/** Throws `errorOf(reason, index)` for the first id outside [0, vocabSize). */
export function checkIds(
  ids: TokenArray,
  vocabSize: number,
  errorOf: (reason: string, index: number) => Error,
): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] as number;
    if (id < 0 || id >= vocabSize) throw errorOf(`token ${id} at index ${i} is outside [0, ${vocabSize})`, i);
  }
}

export function checkRange(op: string, offset: number, count: number, length: number): void {
  const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(count) && offset >= 0 && count >= 0;
  if (isRange && offset + count <= length) return;
  throw new ValueError(op, "offset", `tokens ${offset} … ${offset + count} leave the ${length} there are`);
}
