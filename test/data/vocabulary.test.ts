import { describe, expect, test } from "@jest/globals";
import { ValueError } from "../../lib/errors.js";
import { SymbolCounts, Vocabulary } from "../../lib/data/vocabulary.js";
import { testRandom } from "./test-random.js";

function counted(text: string): SymbolCounts {
  const counts = new SymbolCounts();
  counts.add(text.split(" "));
  return counts;
}

describe("order", () => {
  test("falls by count; ties keep the order of first appearance, also over several texts", () => {
    const counts = counted("b a c a");
    counts.add(["d", "b", "e"]);
    expect(counts.toVocabulary().symbols).toEqual(["b", "a", "c", "d", "e"]);
  });

  test("specials come first, once, whatever their count", () => {
    const vocabulary = counted("x x <eos> y").toVocabulary({ specials: ["<pad>", "<eos>"] });
    expect(vocabulary.symbols).toEqual(["<pad>", "<eos>", "x", "y"]);
  });

  test("names of object properties are ordinary symbols", () => {
    const vocabulary = counted("constructor __proto__ constructor").toVocabulary();
    expect(vocabulary.symbols).toEqual(["constructor", "__proto__"]);
    expect([...vocabulary.encode(["__proto__"])]).toEqual([1]);
    expect(() => vocabulary.encode(["toString"])).toThrow(ValueError);
  });
});

describe("encoding", () => {
  const vocabulary = counted("a a b").toVocabulary();

  test("an unknown symbol is named with its position", () => {
    expect(() => vocabulary.encode(["a", "b", "né", "a"])).toThrow('unknown symbol "né" at position 2');
  });

  test("an unknown symbol becomes the one that stands for it", () => {
    const open = counted("a a b ?").toVocabulary({ unknown: "?" });
    expect([...open.encode(["b", "new", "a"])]).toEqual([1, 2, 0]);
  });

  test.each([-1, 2, 0.5, NaN])("id %p is outside the vocabulary", (id) => {
    expect(() => vocabulary.decode([0, id])).toThrow(`id ${id} at position 1`);
  });

  test("decode undoes encode, through JSON too", () => {
    const random = testRandom(3);
    const counts = new SymbolCounts();
    for (let i = 0; i < 500; i++) counts.add([`w${random.below(60)}`]);
    const made = counts.toVocabulary({ specials: ["<eos>"], unknown: "<eos>" });
    const copy = Vocabulary.fromJSON(JSON.parse(JSON.stringify(made)));
    expect(copy).toEqual(made);
    for (let round = 0; round < 50; round++) {
      const symbols = Array.from({ length: random.below(40) }, () => made.symbols[random.below(made.size)]!);
      expect(copy.decode(made.encode(symbols))).toEqual(symbols);
    }
  });
});

test("what is no vocabulary is refused", () => {
  expect(() => new Vocabulary(["a", "b", "a"])).toThrow("twice");
  expect(() => new Vocabulary(["a"], "?")).toThrow('unknown symbol "?"');
  for (const json of [
    null,
    7,
    {},
    { symbols: "ab" },
    { symbols: ["a", 1] },
    { symbols: ["a"], unknown: 1 },
  ]) {
    expect(() => Vocabulary.fromJSON(json)).toThrow(ValueError);
  }
});
