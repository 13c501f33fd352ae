import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { DataFileError } from "../../lib/errors.js";
import { fitTokenizer, type TokenKind } from "../../lib/data/fit-tokenizer.js";
import { parseSst2, sst2Format } from "../../lib/data/sst2.js";
import { encodeText, type TextSource } from "../../lib/data/text-source.js";
import { MemoryTokens } from "../../lib/data/token-source.js";
import { SymbolTokenizer, type Tokenizer } from "../../lib/data/tokenizer.js";
import { SymbolCounts } from "../../lib/data/vocabulary.js";

type Part = "train" | "valid" | "test";
type Encoded = { idx2sym: string[] } & Record<Part, number[]>;

const golden = JSON.parse(
  readFileSync(new URL("../golden/k_vocab_encoding.json", import.meta.url), "utf8"),
) as {
  enwik8: Encoded & Record<`${Part}_bytes`, number[]>;
  text8: Encoded & Record<`${Part}_text`, string>;
  wt103: Encoded & Record<`${Part}_text`, string>;
  sst2: {
    train_tsv: string;
    dev_tsv: string;
    test_tsv: string;
    idx2sym: string[];
    train: [sentences: number[][], labels: number[]];
    valid: [sentences: number[][], labels: number[]];
  };
};

/** A text in chunks of `chunkBytes`. */
function textOf(content: string | number[], chunkBytes = 5): TextSource {
  const bytes = typeof content === "string" ? Buffer.from(content) : Uint8Array.from(content);
  return {
    name: "test text",
    begin: 0,
    async *chunks() {
      for (let i = 0; i < bytes.length; i += chunkBytes) yield bytes.subarray(i, i + chunkBytes);
    },
  };
}

async function encode(tokenizer: Tokenizer, text: TextSource): Promise<number[]> {
  const tokens = await MemoryTokens.collect(encodeText(text, tokenizer), tokenizer.vocabSize);
  return [...(await tokens.read(0, tokens.length))];
}

function symbolsOf(tokenizer: Tokenizer): readonly string[] {
  const json = tokenizer.toJSON();
  return json.kind === "bytes" ? json.bytes.map(String) : json.vocabulary.symbols;
}

describe("recorded vocabularies and encodings", () => {
  test.each<[TokenKind, Encoded, Record<Part, TextSource>, Part[]]>([
    [
      "enwik8",
      golden.enwik8,
      {
        train: textOf(golden.enwik8.train_bytes),
        valid: textOf(golden.enwik8.valid_bytes),
        test: textOf(golden.enwik8.test_bytes),
      },
      ["train", "valid", "test"],
    ],
    [
      "text8",
      golden.text8,
      {
        train: textOf(golden.text8.train_text.trim()),
        valid: textOf(golden.text8.valid_text.trim()),
        test: textOf(golden.text8.test_text.trim()),
      },
      ["train", "valid", "test"],
    ],
    [
      "words",
      golden.wt103,
      {
        train: textOf(golden.wt103.train_text),
        valid: textOf(golden.wt103.valid_text),
        test: textOf(golden.wt103.test_text),
      },
      ["train"],
    ],
  ])("%s", async (kind, expected, texts, counted) => {
    const tokenizer = await fitTokenizer(
      kind,
      counted.map((part) => texts[part]),
    );
    expect(symbolsOf(tokenizer)).toEqual(expected.idx2sym);
    for (const part of ["train", "valid", "test"] as const) {
      expect(await encode(tokenizer, texts[part])).toEqual(expected[part]);
    }
  });

  test("sst2", () => {
    const { train_tsv, dev_tsv, test_tsv, idx2sym, train, valid } = golden.sst2;
    expect(parseSst2(test_tsv)).toEqual([]);
    const counts = new SymbolCounts();
    for (const { sentence } of [...parseSst2(train_tsv), ...parseSst2(dev_tsv)]) {
      counts.add(sst2Format.split(`${sentence}\n`));
    }
    const tokenizer = new SymbolTokenizer(sst2Format, counts.toVocabulary({ specials: ["<eos>"] }));
    expect(tokenizer.vocabulary.symbols).toEqual(idx2sym);
    for (const [tsv, [sentences, labels]] of [
      [train_tsv, train],
      [dev_tsv, valid],
    ] as const) {
      const rows = parseSst2(tsv);
      expect(rows.map(({ sentence }) => [...tokenizer.encode(`${sentence}\n`)])).toEqual(sentences);
      expect(rows.map(({ label }) => label)).toEqual(labels);
    }
  });
});

describe("byte kinds", () => {
  test("bytes keeps every byte of every text", async () => {
    const tokenizer = await fitTokenizer("bytes", []);
    expect(await encode(tokenizer, textOf([0, 10, 255]))).toEqual([0, 10, 255]);
  });

  test("bytes-compact keeps newlines and orders by value", async () => {
    const tokenizer = await fitTokenizer("bytes-compact", [textOf("b\n"), textOf("a")]);
    expect(await encode(tokenizer, textOf("ab\n"))).toEqual([1, 2, 0]);
  });
});

describe("words", () => {
  test("unknown words become <unk> where the text has it", async () => {
    const tokenizer = await fitTokenizer("words", [textOf("a <unk>\n")]);
    expect([...tokenizer.encode("b a\n")]).toEqual([2, 1, 0]);
  });

  test("otherwise they are errors that name the text and the place", async () => {
    const tokenizer = await fitTokenizer("words", [textOf("a\n")]);
    const failing = encode(tokenizer, textOf("a\na\nzebra\n"));
    await expect(failing).rejects.toThrow(DataFileError);
    await expect(encode(tokenizer, textOf("a\na\nzebra\n"))).rejects.toThrow(
      /test text.*"zebra" at position \d of the \d+ bytes from here \(byte 4\)/,
    );
  });

  test("a text that is not UTF-8 is refused with its place", async () => {
    const failing = fitTokenizer("words", [textOf([97, 10, 98, 10, 99, 255, 10])]);
    await expect(failing).rejects.toThrow(/not valid UTF-8 \(byte 4\)/);
  });
});
