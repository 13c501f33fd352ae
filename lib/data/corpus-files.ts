/** Finds the texts of a corpus on disk: three files, or one file that is split. */

import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { DataFileError } from "../errors.js";
import { DataFile, unreadable } from "./data-file.js";
import { fileText, type TextSource } from "./text-source.js";

export const PARTS = ["train", "valid", "test"] as const;

export type Part = (typeof PARTS)[number];

/** The texts of a corpus. */
export interface CorpusTexts extends Readonly<Record<Part, TextSource>> {
  /** Most bytes that the texts take together. */
  readonly bytes: number;
  /** Differs when the files, their sizes, their times or the split differ. */
  readonly origin: string;
}

/** Bytes [`begin`, `end`) of a file. */
interface FileRange {
  readonly path: string;
  readonly begin: number;
  readonly end: number;
}

const SPLIT_BYTES = 100_000_000;
const VALID_BYTES = 5_000_000;
const TEST_BYTES = 5_000_000;
const WINDOW_BYTES = 1 << 16;
const NEWLINE = 10;
const SPACE = 32;

/**
 * Three files in `folder`, named by the first of `layouts` (such as `{part}.txt`) whose training file exists.
 *
 * @throws {DataFileError} if a file is missing.
 */
export async function findParts(folder: string, layouts: readonly string[]): Promise<CorpusTexts> {
  return textsOf(await findFiles(folder, layouts, "pass the folder the files are in"));
}

/**
 * The published split of enwik8 and text8: the first 10^8 bytes of a file, 90 / 5 / 5 million.
 *
 * @param path The file, a folder that holds it as `name`, or a folder with three files named by `layout`.
 * @param trimSpaces Leave out spaces at both ends of each part, as the published text8 does.
 */
export async function findSplitFile(
  path: string,
  name: string,
  layout: string,
  { trimSpaces }: { trimSpaces: boolean },
): Promise<CorpusTexts> {
  const inFolder = join(path, name);
  const file = (await isFile(path)) ? path : (await isFile(inFolder)) ? inFolder : undefined;
  const download = `download ${name}.zip (Large Text Compression Benchmark), unzip it and pass its path`;
  const ranges =
    file === undefined ? await findFiles(path, [layout], download) : await publishedSplit(file, name);
  return textsOf(trimSpaces ? await Promise.all(ranges.map(trimmed)) : ranges);
}

/** A file split 90 / 5 / 5, each cut moved to the next line; or a folder with three files named by `layout`. */
export async function splitAtLines(path: string, layout: string): Promise<CorpusTexts> {
  if (!(await isFile(path))) return findParts(path, [layout]);
  const size = await sizeOf(path);
  const cuts = [0, await lineAfter(path, size, 0.9), await lineAfter(path, size, 0.95), size];
  if (cuts.some((cut, i) => i > 0 && cut <= cuts[i - 1]!)) {
    throw new DataFileError(path, undefined, `has ${size} bytes, too few to split`, "use a longer text");
  }
  return textsOf(cutFile(path, cuts));
}

/** Bytes of a file or folder entry. @throws {DataFileError} if there is none. */
export async function sizeOf(path: string): Promise<number> {
  return (await statOf(path)).size;
}

async function findFiles(folder: string, layouts: readonly string[], fix: string): Promise<FileRange[]> {
  await sizeOf(folder);
  for (const layout of layouts) {
    const paths = PARTS.map((part) => join(folder, layout.replace("{part}", part)));
    if (!(await isFile(paths[0]!))) continue;
    return Promise.all(paths.map(async (path) => ({ path, begin: 0, end: await sizeOf(path) })));
  }
  const names = layouts.map((layout) => layout.replace("{part}", "{train,valid,test}")).join(" or ");
  throw new DataFileError(folder, undefined, `holds no ${names}`, fix);
}

async function publishedSplit(path: string, name: string): Promise<FileRange[]> {
  const size = await sizeOf(path);
  if (size < SPLIT_BYTES) {
    const fix = `download ${name} again, or train on another file with the corpus "text"`;
    throw new DataFileError(path, size, `has ${size} bytes, ${name} has ${SPLIT_BYTES}`, fix);
  }
  return cutFile(path, [0, SPLIT_BYTES - VALID_BYTES - TEST_BYTES, SPLIT_BYTES - TEST_BYTES, SPLIT_BYTES]);
}

function cutFile(path: string, cuts: readonly number[]): FileRange[] {
  return PARTS.map((_, i) => ({ path, begin: cuts[i]!, end: cuts[i + 1]! }));
}

async function textsOf(ranges: readonly FileRange[]): Promise<CorpusTexts> {
  let bytes = 0;
  const origin: unknown[] = [];
  for (const { path, begin, end } of ranges) {
    bytes += end - begin;
    origin.push([basename(path), begin, end, (await statOf(path)).mtimeMs]);
  }
  const [train, valid, test] = ranges.map(({ path, begin, end }) => fileText(path, begin, end));
  return { train: train!, valid: valid!, test: test!, bytes, origin: JSON.stringify(origin) };
}

/** The first line start after a fraction of a file, or the next character if no line ends nearby. */
async function lineAfter(path: string, size: number, fraction: number): Promise<number> {
  const begin = Math.floor(size * fraction);
  const window = await readWindow(path, begin, Math.max(4, Math.min(WINDOW_BYTES, size / 100)));
  const newline = window.indexOf(NEWLINE);
  return begin + (newline >= 0 ? newline + 1 : window.findIndex((byte) => byte >> 6 !== 0b10));
}

/** The range without spaces at its ends; of a longer run than the window, some are left. */
async function trimmed({ path, begin, end }: FileRange): Promise<FileRange> {
  const length = Math.min(WINDOW_BYTES, end - begin);
  const first = (await readWindow(path, begin, length)).findIndex((byte) => byte !== SPACE);
  const last = (await readWindow(path, end - length, length)).findLastIndex((byte) => byte !== SPACE);
  return { path, begin: begin + Math.max(0, first), end: end - length + last + 1 };
}

async function readWindow(path: string, begin: number, length: number): Promise<Uint8Array> {
  const file = await DataFile.open(path);
  try {
    const window = new Uint8Array(Math.floor(length));
    return window.subarray(0, await file.read(window, begin));
  } finally {
    await file.close();
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (stats) => stats.isFile(),
    () => false,
  );
}

async function statOf(path: string): Promise<Stats> {
  return stat(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
}
