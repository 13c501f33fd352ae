import { describe, expect, test } from "@jest/globals";
import { text8Format, type TextFormat, textFormatFromJson, wordFormat } from "../../lib/data/text-format.js";
import { testRandom } from "./test-random.js";

const wikitext = wordFormat({ end: "<eos>" });

const join = (format: TextFormat, symbols: readonly string[]): string =>
  symbols.map(format.joiner()).join("");

describe("words", () => {
  test("each newline, whatever its form, becomes the end symbol", () => {
    expect(wikitext.split(" the cat \r\n\nsat\ron\n")).toEqual([
      "the",
      "cat",
      "<eos>",
      "<eos>",
      "sat",
      "<eos>",
      "on",
      "<eos>",
    ]);
  });

  test("an open line, such as a prompt, is not closed", () => {
    expect(wikitext.split("the cat")).toEqual(["the", "cat"]);
    expect(wikitext.split("")).toEqual([]);
  });

  test("white space is Python's: no-break and ideographic spaces and control separators, not U+FEFF", () => {
    expect(wordFormat().split("a\u00a0b\u3000c\u001cd\u0085e\u2009f\tg\u000bh\ufeffi")).toEqual([
      "a",
      "b",
      "c",
      "d",
      "e",
      "f",
      "g",
      "h\ufeffi",
    ]);
  });

  test("lines can be lower-cased and opened", () => {
    const format = wordFormat({ lowerCase: true, begin: "<CLS>", end: "<S>" });
    expect(format.split("A Good\n\nFilm")).toEqual([
      "<CLS>",
      "a",
      "good",
      "<S>",
      "<CLS>",
      "<S>",
      "<CLS>",
      "film",
    ]);
    expect(join(format, format.split("a good\n\nfilm\n"))).toBe("a good\n\nfilm\n");
  });

  test("the same symbol may open and close a line", () => {
    const format = wordFormat({ begin: "<S>", end: "<S>" });
    expect(join(format, format.split("a b\n\nc\n"))).toBe("a b\n\nc\n");
  });

  test("split undoes join for any symbols, and lines split alone as they do together", () => {
    const random = testRandom(11);
    for (let round = 0; round < 200; round++) {
      const symbols = Array.from({ length: random.below(30) }, () => (random.below(3) === 0 ? "<eos>" : "w"));
      const text = join(wikitext, symbols);
      expect(wikitext.split(text)).toEqual(symbols);
      const cut = text.lastIndexOf("\n", random.below(text.length + 1)) + 1;
      expect([...wikitext.split(text.slice(0, cut)), ...wikitext.split(text.slice(cut))]).toEqual(symbols);
    }
  });
});

test("text8 writes spaces as _ and drops other white space", () => {
  expect(text8Format.split("a b\n c  d")).toEqual(["a", "_", "b", "_", "c", "_", "_", "d"]);
  expect(text8Format.split("é😀")).toEqual(["é", "😀"]);
  expect(join(text8Format, ["a", "_", "b"])).toBe("a b");
});

test("formats come back from JSON, others are refused", () => {
  for (const format of [text8Format, wikitext, wordFormat({ lowerCase: true, begin: "<CLS>" })]) {
    const copy = textFormatFromJson(JSON.parse(JSON.stringify(format)));
    expect(copy.toJSON()).toEqual(format.toJSON());
    expect(copy.split("A b\nc\n")).toEqual(format.split("A b\nc\n"));
  }
  for (const json of [
    null,
    {},
    { kind: "text9" },
    { kind: "words", end: 3 },
    { kind: "words", lowerCase: "no" },
  ]) {
    expect(() => textFormatFromJson(json)).toThrow("no text format");
  }
});
