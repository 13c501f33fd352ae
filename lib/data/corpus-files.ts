/** Finds the texts of a corpus on disk: three files, or one file that is split. */

import type { Stats } from "node:fs";
import { open, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { DataFileError } from "../errors.js";
import { readFully } from "../files.js";
import { fileText, unreadable, type TextSource } from "./text-source.js";

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
export async function findParts(
  folder: string,
  layouts: readonly string[],
  fix = "pass the folder the files are in",
): Promise<CorpusTexts> {
  await sizeOf(folder);
  const named = (layout: string, part: Part): string => join(folder, layout.replace("{part}", part));
  for (const layout of layouts) {
    if (!(await isFile(named(layout, "train")))) continue;
    return textsOf(PARTS.map((part) => ({ path: named(layout, part), begin: 0, end: Infinity })));
  }
  const names = layouts.map((layout) => layout.replace("{part}", "{train,valid,test}")).join(" or ");
  throw new DataFileError(folder, undefined, `holds no ${names}`, fix);
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
  if (file === undefined) {
    const fix = `download ${name}.zip (Large Text Compression Benchmark), unzip it and pass its path`;
    return findParts(path, [layout], fix);
  }
  const size = await sizeOf(file);
  if (size < SPLIT_BYTES) {
    const fix = `download ${name} again, or train on another file with the corpus "text"`;
    throw new DataFileError(file, size, `has ${size} bytes, ${name} has ${SPLIT_BYTES}`, fix);
  }
  const cuts = [0, SPLIT_BYTES - VALID_BYTES - TEST_BYTES, SPLIT_BYTES - TEST_BYTES, SPLIT_BYTES];
  return splitFile(file, cuts, trimSpaces);
}

/** A file split 90 / 5 / 5, each cut moved to the next line; or a folder with three files named by `layout`. */
export async function splitAtLines(path: string, layout: string): Promise<CorpusTexts> {
  if (!(await isFile(path))) return findParts(path, [layout]);
  const size = await sizeOf(path);
  const cuts = [0, await lineAfter(path, size * 0.9), await lineAfter(path, size * 0.95), size];
  if (cuts.some((cut, i) => i > 0 && cut <= cuts[i - 1]!)) {
    throw new DataFileError(path, undefined, `has ${size} bytes, too few to split`, "use a longer text");
  }
  return splitFile(path, cuts, false);
}

/** Bytes of a file or folder entry. @throws {DataFileError} if there is none. */
export async function sizeOf(path: string): Promise<number> {
  return (await statOf(path)).size;
}

async function splitFile(path: string, cuts: readonly number[], trimSpaces: boolean): Promise<CorpusTexts> {
  const ranges: FileRange[] = [];
  for (const i of PARTS.keys()) {
    const range = { path, begin: cuts[i]!, end: cuts[i + 1]! };
    ranges.push(trimSpaces ? await trimmed(range) : range);
  }
  return textsOf(ranges);
}

async function textsOf(ranges: readonly FileRange[]): Promise<CorpusTexts> {
  let bytes = 0;
  const origin: unknown[] = [];
  for (const { path, begin, end } of ranges) {
    const { size, mtimeMs } = await statOf(path);
    bytes += Math.min(end, size) - begin;
    origin.push([basename(path), begin, Math.min(end, size), mtimeMs]);
  }
  const [train, valid, test] = ranges.map(({ path, begin, end }) => fileText(path, begin, end));
  return { train: train!, valid: valid!, test: test!, bytes, origin: JSON.stringify(origin) };
}

/** The first line start at or after a byte, or the next character where no line ends nearby. */
async function lineAfter(path: string, byte: number): Promise<number> {
  const begin = Math.floor(byte);
  const window = await readWindow(path, begin);
  const newline = window.indexOf(NEWLINE);
  return begin + (newline >= 0 ? newline + 1 : window.findIndex((b) => b >> 6 !== 0b10));
}

/** Without spaces at its ends; a run longer than the window is trimmed in part. */
async function trimmed({ path, begin, end }: FileRange): Promise<FileRange> {
  const head = await readWindow(path, begin);
  const tailBegin = Math.max(begin, end - WINDOW_BYTES);
  const tail = (await readWindow(path, tailBegin)).subarray(0, end - tailBegin);
  const first = head.findIndex((byte) => byte !== SPACE);
  const last = tail.findLastIndex((byte) => byte !== SPACE);
  return { path, begin: begin + first, end: tailBegin + last + 1 };
}

async function readWindow(path: string, begin: number): Promise<Uint8Array> {
  const handle = await open(path, "r").catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    const window = new Uint8Array(WINDOW_BYTES);
    return window.subarray(0, await readFully(handle, window, begin));
  } finally {
    await handle.close();
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
