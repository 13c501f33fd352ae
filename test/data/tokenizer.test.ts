import { describe, expect, test } from "@jest/globals";
import { text8Format, wordFormat } from "../../lib/data/text-format.js";
import {
  ByteCounts,
  ByteTokenizer,
  SymbolTokenizer,
  type Tokenizer,
  tokenizerFromJson,
} from "../../lib/data/tokenizer.js";
import { Vocabulary } from "../../lib/data/vocabulary.js";
import { ValueError } from "../../lib/errors.js";
import { testRandom } from "./test-random.js";

describe("ByteTokenizer", () => {
  const all = new ByteTokenizer();

  test("gives the bytes of the UTF-8 text", () => {
    expect(all.vocabSize).toBe(256);
    expect([...all.encode("aé\n")]).toEqual([97, 195, 169, 10]);
    expect(all.decode([97, 195, 169, 10])).toBe("aé\n");
    expect(all.decode([195])).toBe("\ufffd");
  });

  test("every text comes back", () => {
    const random = testRandom(5);
    for (let round = 0; round < 200; round++) {
      const points = Array.from({ length: random.below(40) }, () => random.below(0xd800));
      const text = String.fromCodePoint(0xfeff, ...points, 0x1f600);
      expect(all.decode(all.encode(text))).toBe(text);
    }
  });

  test("compact ids keep to the bytes that occur", () => {
    const counts = new ByteCounts();
    counts.add(Buffer.from("banana"));
    counts.add(Buffer.from("c"));
    expect(counts.ascending()).toEqual([97, 98, 99, 110]);
    expect(counts.byCount()).toEqual([97, 110, 98, 99]);
    const compact = new ByteTokenizer(counts.ascending());
    expect([...compact.encode("cab")]).toEqual([2, 0, 1]);
    expect(compact.decode([2, 0, 1])).toBe("cab");
    expect(() => compact.encode("cabd")).toThrow("unknown byte 100 at position 3");
    expect(() => compact.decode([0, 4])).toThrow("id 4 at position 1");
  });

  test("newlines are dropped only where asked", () => {
    const dropping = new ByteTokenizer([98, 97], true);
    expect([...dropping.encode("a\nb\n\n")]).toEqual([1, 0]);
    expect(() => new ByteTokenizer([98]).encode("b\n")).toThrow("unknown byte 10 at position 1");
  });

  test.each([[[1, 1]], [[256]], [[-1]], [[0.5]], [["a" as unknown as number]]])(
    "bytes %j are refused",
    (bytes) => {
      expect(() => new ByteTokenizer(bytes)).toThrow(ValueError);
    },
  );
});

describe("SymbolTokenizer", () => {
  const words = new SymbolTokenizer(wordFormat({ end: "<eos>" }), new Vocabulary(["<eos>", "cat", "the"]));

  test("encodes and decodes by its format and vocabulary", () => {
    expect([...words.encode("the cat\nthe\n")]).toEqual([2, 1, 0, 2, 0]);
    expect(words.decode([2, 1, 0, 2])).toBe("the cat\nthe");
    expect(words.vocabSize).toBe(3);
    expect(() => words.encode("the dog")).toThrow('"dog" at position 1');
  });

  test("bytes must be UTF-8", () => {
    expect([...words.encodeBytes(Buffer.from("cat\n"))]).toEqual([1, 0]);
    expect(() => words.encodeBytes(Uint8Array.of(0xff))).toThrow("not valid UTF-8");
  });
});

test("tokenizers come back from JSON, others are refused", () => {
  for (const tokenizer of [
    new ByteTokenizer(),
    new ByteTokenizer([98, 97], true),
    new SymbolTokenizer(text8Format, new Vocabulary(["a", "b", "_"])),
    new SymbolTokenizer(wordFormat({ lowerCase: true }), new Vocabulary(["a", "b", "?"], "?")),
  ]) {
    const copy = tokenizerFromJson(JSON.parse(JSON.stringify(tokenizer)));
    expect(copy.toJSON()).toEqual(tokenizer.toJSON());
    expect(copy.encode("ab")).toEqual(tokenizer.encode("ab"));
  }
  for (const json of [
    null,
    {},
    { kind: "bytes" },
    { kind: "bytes", bytes: [300], dropNewlines: false },
    { kind: "symbols" },
  ]) {
    expect(() => tokenizerFromJson(json)).toThrow(ValueError);
  }
});

describe("decoding one id at a time", () => {
  const piecewise = (tokenizer: Tokenizer, ids: ArrayLike<number>): string[] => {
    const decoder = tokenizer.decoder();
    return [...Array.from(ids, (id) => decoder.push(id)), decoder.end()];
  };

  test("gives a character once its last byte is there, and U+FFFD for one that is cut", () => {
    const bytes = new ByteTokenizer();
    expect(piecewise(bytes, Buffer.from("aé€😀"))).toEqual([
      ...["a", "", "é", "", "", "€", "", "", "", "😀"],
      "",
    ]);
    expect(piecewise(bytes, [0xe2, 0x82])).toEqual(["", "", "\ufffd"]);
    expect(piecewise(bytes, [0xe2, 0x61])).toEqual(["", "\ufffda", ""]);
    expect(() => bytes.decoder().push(256)).toThrow("id 256 at position 0");
  });

  test("gives what decoding all at once gives, for any bytes and for words", () => {
    const random = testRandom(11);
    const bytes = new ByteTokenizer();
    const words = new SymbolTokenizer(wordFormat({ end: "<eos>" }), new Vocabulary(["<eos>", "a", "b"]));
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: random.below(12) }, () => random.below(256));
      expect(piecewise(bytes, ids).join("")).toBe(bytes.decode(ids));
      const symbols = ids.map((id) => id % 3);
      expect(piecewise(words, symbols).join("")).toBe(words.decode(symbols));
    }
  });
});
