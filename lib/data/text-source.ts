/** Texts of any size as streams of bytes, cut so that each piece can be encoded by itself. */

import { DataFileError, ValueError } from "../errors.js";
import { DataFile } from "./data-file.js";
import type { TextUnit } from "./text-format.js";
import type { Tokenizer } from "./tokenizer.js";

/** A text that can be streamed any number of times. */
export interface TextSource {
  /** Its path, or what to call it in messages. */
  readonly name: string;
  /** Its first byte in that file. */
  readonly begin: number;
  /** The bytes, in chunks of any size. */
  chunks(): AsyncIterable<Uint8Array>;
}

/** A piece of a text, cut between units; `offset` is its first byte in the file. */
export interface TextPiece {
  readonly bytes: Uint8Array;
  readonly offset: number;
}

const CHUNK_BYTES = 1 << 18;
const NEWLINE = 10;

/** Bytes [`begin`, `end`) of a file. Streaming fails with a {@link DataFileError} if it is missing or shorter. */
export function fileText(path: string, begin: number, end: number): TextSource {
  return { name: path, begin, chunks: () => readChunks(path, begin, end) };
}

async function* readChunks(path: string, begin: number, end: number): AsyncGenerator<Uint8Array> {
  const file = await DataFile.open(path);
  try {
    for (let position = begin; position < end; position += CHUNK_BYTES) {
      const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - position));
      const read = await file.read(chunk, position);
      if (read < chunk.length) {
        const reason = `ends before byte ${end}`;
        throw new DataFileError(path, position + read, reason, "restore the file and start again");
      }
      yield chunk;
    }
  } finally {
    await file.close();
  }
}

/** Cuts a text between units. A last line without a newline gets one, so that every line is complete. */
export async function* cutText(text: TextSource, unit: TextUnit): AsyncGenerator<TextPiece> {
  let offset = text.begin;
  let pending: Uint8Array[] = [];
  for await (const chunk of text.chunks()) {
    const cut = cutIndex(chunk, unit);
    if (cut > 0) {
      const bytes = Buffer.concat([...pending, chunk.subarray(0, cut)]);
      yield { bytes, offset };
      offset += bytes.length;
      pending = [];
    }
    if (cut < chunk.length) pending.push(chunk.subarray(cut));
  }
  if (pending.length === 0) return;
  if (unit === "line") pending.push(Uint8Array.of(NEWLINE));
  yield { bytes: Buffer.concat(pending), offset };
}

/** The tokens of a text, piece by piece. Unknown symbols and bad UTF-8 are {@link DataFileError}s. */
export async function* encodeText(text: TextSource, tokenizer: Tokenizer): AsyncGenerator<Int32Array> {
  for await (const { bytes, offset } of cutText(text, tokenizer.unit)) {
    try {
      yield tokenizer.encodeBytes(bytes);
    } catch (error) {
      if (!(error instanceof ValueError)) throw error;
      throw new DataFileError(
        text.name,
        offset,
        `${error.reason} of the ${bytes.length} bytes from here`,
        error.fix,
      );
    }
  }
}

/** Bytes of `chunk` up to its last cut between units; 0 when it has none. */
function cutIndex(chunk: Uint8Array, unit: TextUnit): number {
  if (unit === "line") return chunk.lastIndexOf(NEWLINE) + 1;
  if (unit === "byte") return chunk.length;
  // Step back over the continuation bytes of the last UTF-8 character; its first byte tells its length.
  for (let length = 1; length <= 4 && length <= chunk.length; length++) {
    const byte = chunk[chunk.length - length] as number;
    if (byte < 0x80 || byte >= 0xc0) {
      const expected = byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
      return expected > length ? chunk.length - length : chunk.length;
    }
  }
  return chunk.length < 4 ? 0 : chunk.length;
}
