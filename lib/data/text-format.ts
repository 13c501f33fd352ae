/**
 * How a text divides into symbols: the conventions of the published word- and character-level data sets.
 *
 * A line belongs to a text up to and with its newline. So a prompt that ends inside a line gets no symbol that
 * closes a line, and a text cut after newlines gives the same symbols in pieces as in one go.
 */

import { ValueError } from "../errors.js";

/** Part of a text that must not be cut when it is encoded in pieces. */
export type TextUnit = "byte" | "character" | "line";

export interface TextFormat {
  readonly unit: TextUnit;
  /** Symbols of a text. */
  split(text: string): string[];
  /** Starts a text: gives the part of it that each further symbol adds. */
  joiner(): (symbol: string) => string;
  toJSON(): TextFormatJson;
}

export type TextFormatJson = { readonly kind: "text8" } | ({ readonly kind: "words" } & WordFormatOptions);

export interface WordFormatOptions {
  /** Lower-case the words; default false. */
  readonly lowerCase?: boolean;
  /** Symbol before each line; default none. */
  readonly begin?: string;
  /** Symbol in place of each newline, blank lines included; default none. */
  readonly end?: string;
}

// What Python's str.split() takes for white space: published vocabularies depend on it.
const WHITE_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;
const NEWLINE = /\r\n|\n|\r/;

/** text8: each character is a symbol, the space is written `_`, other white space is dropped. */
export const text8Format: TextFormat = {
  unit: "character",
  split: (text) => Array.from(text.replaceAll(" ", "_").replace(WHITE_SPACE, "")),
  joiner: () => (symbol) => symbol.replaceAll("_", " "),
  toJSON: () => ({ kind: "text8" }),
};

/** White-space separated words. WikiText is `wordFormat({ end: "<eos>" })`. */
export function wordFormat(options: WordFormatOptions = {}): TextFormat {
  return {
    unit: "line",
    split: (text) => splitWords(text, options),
    joiner: () => wordJoiner(options),
    toJSON: () => ({ kind: "words", ...options }),
  };
}

/** @throws {ValueError} if `json` is no format. */
export function textFormatFromJson(json: unknown): TextFormat {
  const { kind, ...options } = (json ?? {}) as Record<string, unknown>;
  if (kind === "text8") return text8Format;
  const { lowerCase = false, begin = "", end = "" } = options;
  const isValid = typeof lowerCase === "boolean" && typeof begin === "string" && typeof end === "string";
  if (kind === "words" && isValid) return wordFormat(options);
  throw new ValueError(
    "textFormatFromJson",
    "json",
    "it describes no text format",
    "use the result of toJSON()",
  );
}

function splitWords(text: string, { lowerCase = false, begin, end }: WordFormatOptions): string[] {
  const symbols: string[] = [];
  const lines = (lowerCase ? text.toLowerCase() : text).split(NEWLINE);
  lines.forEach((line, index) => {
    const isOpen = index === lines.length - 1;
    if (isOpen && line === "") return;
    if (begin !== undefined) symbols.push(begin);
    for (const word of line.split(WHITE_SPACE)) if (word !== "") symbols.push(word);
    if (end !== undefined && !isOpen) symbols.push(end);
  });
  return symbols;
}

function wordJoiner({ begin, end }: WordFormatOptions): (symbol: string) => string {
  let position: "line start" | "first word" | "next word" = "line start";
  return (symbol) => {
    if (position === "line start" && symbol === begin) {
      position = "first word";
      return "";
    }
    if (symbol === end) {
      position = "line start";
      return "\n";
    }
    const space = position === "next word" ? " " : "";
    position = "next word";
    return space + symbol;
  };
}
