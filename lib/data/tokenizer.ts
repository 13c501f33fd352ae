/** Tokenizers: texts to token ids and back, by bytes or by symbols of a vocabulary. */

import { ValueError } from "../errors.js";
import { textFormatFromJson, type TextFormat, type TextFormatJson, type TextUnit } from "./text-format.js";
import { Vocabulary, type VocabularyJson } from "./vocabulary.js";

export interface Tokenizer {
  /** Number of ids; every id is in [0, vocabSize). */
  readonly vocabSize: number;
  /** Encoding pieces of a text that are cut between such units gives the same ids as encoding it whole. */
  readonly unit: TextUnit;
  /** @throws {ValueError} naming the symbol or byte and its position, if the vocabulary lacks it. */
  encode(text: string): Int32Array;
  /** Encodes the bytes of a file; for a vocabulary of symbols they must be UTF-8. Errors as `encode`. */
  encodeBytes(bytes: Uint8Array): Int32Array;
  /** @throws {ValueError} if an id is outside the vocabulary. */
  decode(ids: ArrayLike<number>): string;
  /** Starts a text that arrives one id at a time. */
  decoder(): TokenDecoder;
  /** Plain JSON from which {@link tokenizerFromJson} makes an equal tokenizer. */
  toJSON(): TokenizerJson;
}

/** Turns ids into text one by one; all its pieces together are what `decode` gives for all the ids. */
export interface TokenDecoder {
  /** The text that this id completes: "" in the middle of a character. Errors as `decode`. */
  push(id: number): string;
  /** What is left at the end: U+FFFD for a character that was cut, else "". */
  end(): string;
}

export type TokenizerJson =
  | { readonly kind: "bytes"; readonly bytes: readonly number[]; readonly dropNewlines: boolean }
  | { readonly kind: "symbols"; readonly format: TextFormatJson; readonly vocabulary: VocabularyJson };

const NEWLINE = 10;

/** Counts bytes, to choose those of a {@link ByteTokenizer}. */
export class ByteCounts {
  private readonly counts = new Map<number, number>();

  add(bytes: Uint8Array): void {
    const tally = new Float64Array(256);
    for (const byte of bytes) {
      if (tally[byte] === 0 && !this.counts.has(byte)) this.counts.set(byte, 0);
      tally[byte] = (tally[byte] as number) + 1;
    }
    for (const [byte, count] of this.counts) this.counts.set(byte, count + (tally[byte] as number));
  }

  /** The bytes that occur, ascending. */
  ascending(): number[] {
    return [...this.counts.keys()].sort((a, b) => a - b);
  }

  /** The bytes that occur, by falling count; ties keep the order of first appearance. */
  byCount(): number[] {
    return [...this.counts].sort(([, a], [, b]) => b - a).map(([byte]) => byte);
  }
}

/**
 * One token per byte of the UTF-8 text.
 *
 * The true byte level is `new ByteTokenizer()`: 256 ids, every text encodes. The setting behind published enwik8
 * results is `dropNewlines: true` with the bytes by falling count: byte 10 only separates lines there and
 * disappears, so its bits per character are averaged over the other bytes alone.
 */
export class ByteTokenizer implements Tokenizer {
  readonly unit = "byte";
  private readonly idOfByte = new Int32Array(256).fill(-1);

  /**
   * @param bytes Bytes by id, all different; default 0 … 255.
   * @throws {ValueError} if `bytes` are no distinct bytes, or hold byte 10 although newlines are dropped.
   */
  constructor(
    private readonly bytes: readonly number[] = Array.from({ length: 256 }, (_, byte) => byte),
    private readonly dropNewlines = false,
  ) {
    bytes.forEach((byte, id) => {
      const isNew = Number.isInteger(byte) && this.idOfByte[byte] === -1;
      if (!isNew || (dropNewlines && byte === NEWLINE)) {
        throw new ValueError(
          "ByteTokenizer",
          "bytes",
          `${byte} at index ${id} is a repeated, dropped or invalid byte`,
        );
      }
      this.idOfByte[byte] = id;
    });
  }

  get vocabSize(): number {
    return this.bytes.length;
  }

  encode(text: string): Int32Array {
    return this.encodeBytes(Buffer.from(text));
  }

  encodeBytes(bytes: Uint8Array): Int32Array {
    const ids = new Int32Array(bytes.length);
    let count = 0;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] as number;
      const id = this.idOfByte[byte] as number;
      if (id >= 0) ids[count++] = id;
      else if (!this.dropNewlines || byte !== NEWLINE) {
        const reason = `unknown byte ${byte} at position ${i}`;
        throw new ValueError("ByteTokenizer.encode", "bytes", reason, "use a tokenizer with all 256 bytes");
      }
    }
    return ids.subarray(0, count);
  }

  /** The text; bytes that are no UTF-8, such as a cut character, become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    const bytes = Uint8Array.from(ids, (id, position) => this.byteOf(id, position));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
  }

  decoder(): TokenDecoder {
    const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
    let position = 0;
    return {
      push: (id) => utf8.decode(Uint8Array.of(this.byteOf(id, position++)), { stream: true }),
      end: () => utf8.decode(),
    };
  }

  toJSON(): TokenizerJson {
    return { kind: "bytes", bytes: this.bytes, dropNewlines: this.dropNewlines };
  }

  private byteOf(id: number, position: number): number {
    const byte = this.bytes[id];
    if (byte !== undefined) return byte;
    const reason = `id ${id} at position ${position} is outside [0, ${this.vocabSize})`;
    throw new ValueError("ByteTokenizer.decode", "ids", reason, "decode ids made with the same tokenizer");
  }
}

/** One token per symbol, words or characters, numbered by a vocabulary. */
export class SymbolTokenizer implements Tokenizer {
  constructor(
    readonly format: TextFormat,
    readonly vocabulary: Vocabulary,
  ) {}

  get unit(): TextUnit {
    return this.format.unit;
  }

  get vocabSize(): number {
    return this.vocabulary.size;
  }

  encode(text: string): Int32Array {
    return this.vocabulary.encode(this.format.split(text));
  }

  encodeBytes(bytes: Uint8Array): Int32Array {
    return this.encode(decodeUtf8(bytes));
  }

  decode(ids: ArrayLike<number>): string {
    return this.vocabulary.decode(ids).map(this.format.joiner()).join("");
  }

  decoder(): TokenDecoder {
    const add = this.format.joiner();
    return { push: (id) => this.vocabulary.decode([id]).map(add).join(""), end: () => "" };
  }

  toJSON(): TokenizerJson {
    return { kind: "symbols", format: this.format.toJSON(), vocabulary: this.vocabulary.toJSON() };
  }
}

/** @throws {ValueError} if the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ValueError(
      "decodeUtf8",
      "bytes",
      "the text is not valid UTF-8",
      "convert it to UTF-8, or use bytes as tokens",
    );
  }
}

/** The tokenizer whose `toJSON()` gave `json`. @throws {ValueError} if `json` is none. */
export function tokenizerFromJson(json: unknown): Tokenizer {
  const { kind, bytes, dropNewlines, format, vocabulary } = (json ?? {}) as Record<string, unknown>;
  if (kind === "symbols")
    return new SymbolTokenizer(textFormatFromJson(format), Vocabulary.fromJSON(vocabulary));
  if (kind === "bytes" && Array.isArray(bytes) && typeof dropNewlines === "boolean") {
    return new ByteTokenizer(bytes as number[], dropNewlines);
  }
  throw new ValueError(
    "tokenizerFromJson",
    "json",
    "it describes no tokenizer",
    "use the result of toJSON()",
  );
}
