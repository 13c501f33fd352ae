/** Chooses the tokenizer of a corpus by counting its texts. */

import { DataFileError, ValueError } from "../errors.js";
import { text8Format, wordFormat, type TextFormat } from "./text-format.js";
import { cutText, type TextSource } from "./text-source.js";
import { ByteCounts, ByteTokenizer, decodeUtf8, SymbolTokenizer, type Tokenizer } from "./tokenizer.js";
import { SymbolCounts } from "./vocabulary.js";

/**
 * What a token is:
 *
 * - `bytes`: every byte, 256 ids;
 * - `bytes-compact`: every byte, ids only for those that occur;
 * - `enwik8`: bytes as in published enwik8 results, by falling count and without newlines;
 * - `text8`: characters as in published text8 results, by falling count, the space as `_`;
 * - `words`: white-space separated words by falling count, `<eos>` (id 0) for each newline.
 */
export const tokenKinds = ["bytes", "bytes-compact", "enwik8", "text8", "words"] as const;

export type TokenKind = (typeof tokenKinds)[number];

const END_OF_LINE = "<eos>";
const UNKNOWN_WORD = "<unk>";

/**
 * Builds the tokenizer of the given kind from the texts, in their order.
 *
 * For `words`, `<unk>` stands for unknown words if the texts contain it, as WikiText does.
 */
export async function fitTokenizer(kind: TokenKind, texts: readonly TextSource[]): Promise<Tokenizer> {
  switch (kind) {
    case "bytes":
      return new ByteTokenizer();
    case "bytes-compact":
      return new ByteTokenizer((await countBytes(texts)).ascending());
    case "enwik8": {
      const newline = "\n".charCodeAt(0);
      return new ByteTokenizer(
        (await countBytes(texts)).byCount().filter((byte) => byte !== newline),
        true,
      );
    }
    case "text8":
      return new SymbolTokenizer(text8Format, (await countSymbols(text8Format, texts)).toVocabulary());
    case "words": {
      const format = wordFormat({ end: END_OF_LINE });
      const counts = await countSymbols(format, texts);
      const unknown = counts.has(UNKNOWN_WORD) ? UNKNOWN_WORD : undefined;
      return new SymbolTokenizer(format, counts.toVocabulary({ specials: [END_OF_LINE], unknown }));
    }
  }
}

async function countBytes(texts: readonly TextSource[]): Promise<ByteCounts> {
  const counts = new ByteCounts();
  for (const text of texts) for await (const chunk of text.chunks()) counts.add(chunk);
  return counts;
}

async function countSymbols(format: TextFormat, texts: readonly TextSource[]): Promise<SymbolCounts> {
  const counts = new SymbolCounts();
  for (const text of texts) {
    for await (const { bytes, offset } of cutText(text, format.unit)) {
      try {
        counts.add(format.split(decodeUtf8(bytes)));
      } catch (error) {
        if (!(error instanceof ValueError)) throw error;
        throw new DataFileError(text.name, offset, error.reason, error.fix);
      }
    }
  }
  return counts;
}
