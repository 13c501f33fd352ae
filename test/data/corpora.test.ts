import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { ConfigError, DataFileError } from "../../lib/errors.js";
import { LmBatches } from "../../lib/data/batches.js";
import { loadCorpus, type Corpus, type CorpusName } from "../../lib/data/corpora.js";
import { TokenFile } from "../../lib/data/token-file.js";
import type { TokenSource } from "../../lib/data/token-source.js";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "corpora-"))));
afterAll(() => rm(folder, { recursive: true }));

const golden = JSON.parse(
  readFileSync(new URL("../golden/k_vocab_encoding.json", import.meta.url), "utf8"),
) as Record<"enwik8" | "text8" | "wt103", Record<string, string & number[]>>;

async function folderOf(name: string, files: Record<string, string | Uint8Array>): Promise<string> {
  const path = join(folder, name);
  await mkdir(path, { recursive: true });
  for (const [file, content] of Object.entries(files)) await writeFile(join(path, file), content);
  return path;
}

const idsOf = async (source: TokenSource): Promise<number[]> => [...(await source.read(0, source.length))];

async function partsOf(corpus: Corpus): Promise<number[][]> {
  return [await idsOf(corpus.train), await idsOf(corpus.valid), await idsOf(corpus.test)];
}

async function textOf({ tokenizer }: Corpus, source: TokenSource): Promise<string> {
  return tokenizer.decode(await source.read(0, source.length));
}

const lines = Array.from({ length: 400 }, (_, i) => `line ${i} — ${"word ".repeat(i % 7)}\n`);

describe("recorded encodings, in memory and from token files", () => {
  const raw = (part: number[]): Uint8Array => Uint8Array.from(part);
  const cases: [CorpusName, string, Record<string, string | Uint8Array>, Record<string, number[]>][] = [
    [
      "enwik8",
      "enwik8-parts",
      {
        "train.txt.raw": raw(golden.enwik8["train_bytes"]!),
        "valid.txt.raw": raw(golden.enwik8["valid_bytes"]!),
        "test.txt.raw": raw(golden.enwik8["test_bytes"]!),
      },
      golden.enwik8,
    ],
    [
      "text8",
      "text8-parts",
      {
        "train.txt.raw": golden.text8["train_text"]!,
        "valid.txt.raw": golden.text8["valid_text"]!,
        "test.txt.raw": golden.text8["test_text"]!,
      },
      golden.text8,
    ],
    [
      "wikitext-103",
      "wikitext-103",
      {
        "wiki.train.tokens": golden.wt103["train_text"]!,
        "wiki.valid.tokens": golden.wt103["valid_text"]!,
        "wiki.test.tokens": golden.wt103["test_text"]!,
      },
      golden.wt103,
    ],
  ];
  test.each(cases)("%s", async (name, folderName, files, expected) => {
    const path = await folderOf(folderName, files);
    for (const options of [{ path }, { path, cacheDir: join(path, "cache") }]) {
      const corpus = await loadCorpus(name, options);
      expect(await partsOf(corpus)).toEqual([expected["train"], expected["valid"], expected["test"]]);
      await corpus.close();
    }
  });
});

describe("brown", () => {
  test("is bytes in memory, ready for batches", async () => {
    const corpus = await loadCorpus("brown");
    expect([corpus.name, corpus.tokens, corpus.tokenizer.vocabSize]).toEqual(["brown", "bytes", 256]);
    expect(corpus.train.length / corpus.test.length).toBeGreaterThan(15);
    expect(corpus.tokenizer.decode(await corpus.train.read(0, 28))).toBe("The Fulton County Grand Jury");
    const { value } = await new LmBatches(corpus.train, { batchSize: 4, seqLen: 8 }).epoch().next();
    expect(value?.inputs.length).toBe(32);
    await corpus.close();
  });

  test("a compact vocabulary holds the bytes that occur", async () => {
    const corpus = await loadCorpus("brown", { tokens: "bytes-compact" });
    expect(corpus.tokenizer.vocabSize).toBeLessThan(100);
    expect(corpus.tokenizer.decode(corpus.tokenizer.encode("Grand Jury\n"))).toBe("Grand Jury\n");
  });
});

describe("any text", () => {
  test("is split 90 / 5 / 5 at line ends, nothing lost", async () => {
    const path = join(await folderOf("text", { "book.txt": lines.join("") }), "book.txt");
    const corpus = await loadCorpus("text", { path });
    const parts = [corpus.train, corpus.valid, corpus.test];
    const texts = await Promise.all(parts.map((part) => textOf(corpus, part)));
    expect(texts.join("")).toBe(lines.join(""));
    for (const text of texts) expect(text.endsWith("\n")).toBe(true);
    const total = Buffer.byteLength(lines.join(""));
    [0.9, 0.05, 0.05].forEach((share, i) => {
      expect(Math.abs(parts[i]!.length / total - share)).toBeLessThan(0.01);
    });
  });

  test("without line ends it is split between characters", async () => {
    const text = "é文".repeat(700);
    const path = join(await folderOf("text", { "flat.txt": text }), "flat.txt");
    const corpus = await loadCorpus("text", { path });
    for (const part of [corpus.train, corpus.valid, corpus.test]) {
      expect(await textOf(corpus, part)).not.toContain("\ufffd");
    }
  });

  test("a folder keeps its own split; words count all parts", async () => {
    const path = await folderOf("parts", { "train.txt": "a b\n", "valid.txt": "c\n", "test.txt": "b c" });
    const corpus = await loadCorpus("text", { path, tokens: "words" });
    expect(await partsOf(corpus)).toEqual([
      [3, 1, 0],
      [2, 0],
      [1, 2, 0],
    ]);
  });
});

describe("token files", () => {
  test("are reused while the text stays the same, and made again when it changes", async () => {
    const dir = await folderOf("cached", { "a.txt": lines.join("") });
    const options = { path: join(dir, "a.txt"), cacheDir: join(dir, "cache") };
    const file = join(options.cacheDir, "train.bytes.tokens");
    const first = await loadCorpus("text", options);
    const expected = await partsOf(first);
    await first.close();
    const written = await stat(file);
    const second = await loadCorpus("text", options);
    expect(await partsOf(second)).toEqual(expected);
    await second.close();
    expect((await stat(file)).ino).toBe(written.ino);
    await writeFile(options.path, lines.reverse().join(""));
    await utimes(options.path, new Date(), new Date(Date.now() + 5000));
    const third = await loadCorpus("text", options);
    expect(await partsOf(third)).not.toEqual(expected);
    await third.close();
    expect((await stat(file)).ino).not.toBe(written.ino);
  });

  test("beside a small text are used, but made only on request", async () => {
    const dir = await folderOf("beside", { "a.txt": lines.join("") });
    const path = join(dir, "a.txt");
    const inMemory = await loadCorpus("text", { path });
    expect(inMemory.prepared).toBeNull();
    const made = await loadCorpus("text", { path, cacheDir: `${path}.tokens` });
    expect(made.prepared?.isNew).toBe(true);
    const found = await loadCorpus("text", { path });
    const paths = ["train", "valid", "test"].map((part) => join(`${path}.tokens`, `${part}.bytes.tokens`));
    expect(found.prepared).toEqual({ paths, isNew: false });
    expect(await partsOf(found)).toEqual(await partsOf(inMemory));
    await Promise.all([made.close(), found.close()]);
  });

  test("are not left half-written when making them is aborted", async () => {
    const dir = await folderOf("aborted", { "a.txt": lines.join("") });
    const options = { path: join(dir, "a.txt"), cacheDir: join(dir, "cache") };
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(loadCorpus("text", { ...options, signal })).rejects.toThrow("enough");
    expect(await readdir(options.cacheDir)).toEqual([]);
    await expect(loadCorpus("text", { path: options.path, tokens: "words", signal })).rejects.toThrow(
      "enough",
    );
  });

  test("carry their tokenizer", async () => {
    const dir = await folderOf("alone", { "a.txt": lines.join("") });
    const options = { path: join(dir, "a.txt"), cacheDir: join(dir, "cache"), tokens: "words" } as const;
    await (await loadCorpus("text", options)).close();
    const file = await TokenFile.open(join(options.cacheDir, "valid.words.tokens"));
    expect(file.tokenizer.decode(await file.read(0, 3))).toMatch(/^line \d+ —$/);
    await file.close();
  });

  test("a truncated one is an error that says what to do", async () => {
    const dir = await folderOf("truncated", { "a.txt": lines.join("") });
    const options = { path: join(dir, "a.txt"), cacheDir: join(dir, "cache") };
    await (await loadCorpus("text", options)).close();
    const file = join(options.cacheDir, "valid.bytes.tokens");
    await truncate(file, (await readFile(file)).length - 1);
    await expect(loadCorpus("text", options)).rejects.toThrow(
      /valid\.bytes\.tokens: has[\s\S]*delete the file/,
    );
  });
});

describe("what is missing is named, with a fix", () => {
  const none = "/does-not-exist";

  test.each<[CorpusName, string]>([
    ["enwik8", "no such file"],
    ["text8", "no such file"],
    ["wikitext-2", "no such file"],
    ["wikitext-103", "no such file"],
    ["text", "no such file"],
    ["brown", "no such file"],
  ])("%s: a path that does not exist", async (name, message) => {
    const failing = loadCorpus(name, { path: none });
    await expect(failing).rejects.toThrow(DataFileError);
    await expect(loadCorpus(name, { path: none })).rejects.toThrow(`${none}: cannot be read: ${message}`);
  });

  test("an empty folder", async () => {
    const path = await folderOf("empty", {});
    await expect(loadCorpus("enwik8", { path })).rejects.toThrow(
      /holds no.*\.txt\.raw[\s\S]*fix: download enwik8/,
    );
    await expect(loadCorpus("wikitext-2", { path })).rejects.toThrow(/wiki\.\{train,valid,test\}\.tokens or/);
  });

  test("one file of three", async () => {
    const path = await folderOf("two", { "wiki.train.tokens": "a\n", "wiki.valid.tokens": "a\n" });
    await expect(loadCorpus("wikitext-103", { path })).rejects.toThrow(/wiki\.test\.tokens: cannot be read/);
  });

  test("a download that broke off", async () => {
    const path = await folderOf("short", { enwik8: "<mediawiki", text8: "anarchism" });
    await expect(loadCorpus("enwik8", { path })).rejects.toThrow(
      /has 10 bytes, enwik8 has 100000000 \(byte 10\)/,
    );
    await expect(loadCorpus("text8", { path: join(path, "text8") })).rejects.toThrow(/has 9 bytes/);
  });

  test("a text too short to split", async () => {
    const path = join(await folderOf("tiny", { "a.txt": "ab" }), "a.txt");
    await expect(loadCorpus("text", { path })).rejects.toThrow("too few to split");
  });

  test("no path, a wrong name, a wrong kind of token", async () => {
    await expect(loadCorpus("enwik8")).rejects.toThrow(ConfigError);
    await expect(loadCorpus("enwik9" as CorpusName)).rejects.toThrow(
      /"corpus" is "enwik9"[\s\S]*did you mean "enwik8"/,
    );
    await expect(loadCorpus("toString" as CorpusName)).rejects.toThrow(ConfigError);
    await expect(loadCorpus("brown", { tokens: "byte" as "bytes" })).rejects.toThrow(/did you mean "bytes"/);
  });
});

test("the published split of a whole file", async () => {
  const path = join(folder, "enwik8");
  await writeFile(path, "");
  await truncate(path, 100_000_100);
  const corpus = await loadCorpus("enwik8", { path, tokens: "bytes", cacheDir: join(folder, "cache") });
  const lengths = [corpus.train.length, corpus.valid.length, corpus.test.length];
  expect(lengths).toEqual([90_000_000, 5_000_000, 5_000_000]);
  await corpus.close();
  await rm(join(folder, "cache"), { recursive: true });
});
