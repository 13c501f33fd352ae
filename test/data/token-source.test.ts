import { describe, expect, test } from "@jest/globals";
import { ValueError } from "../../lib/errors.js";
import { MemoryTokens, tokenArrayOf } from "../../lib/data/token-source.js";

describe("MemoryTokens", () => {
  test("reads ranges as new int32 arrays", async () => {
    const tokens = new MemoryTokens(Uint16Array.of(5, 6, 7, 8), 300);
    expect([tokens.length, tokens.vocabSize]).toEqual([4, 300]);
    const first = await tokens.read(1, 2);
    expect(first).toEqual(Int32Array.of(6, 7));
    first[0] = 0;
    expect(await tokens.read(1, 2)).toEqual(Int32Array.of(6, 7));
    await expect(tokens.read(3, 2)).rejects.toThrow("tokens 3 … 5 leave the 4 there are");
  });

  test("collects a stream of pieces", async () => {
    async function* pieces(): AsyncGenerator<Int32Array> {
      yield Int32Array.of(1, 2);
      yield Int32Array.of();
      yield Int32Array.of(3);
    }
    const tokens = await MemoryTokens.collect(pieces(), 4);
    expect(await tokens.read(0, 3)).toEqual(Int32Array.of(1, 2, 3));
  });

  test("ids outside the vocabulary are refused", () => {
    expect(() => new MemoryTokens(Int32Array.of(1, -1), 4)).toThrow(ValueError);
    expect(() => new MemoryTokens(Uint8Array.of(1, 4), 4)).toThrow("token 4 at index 1");
  });
});

test("ids take the fewest bytes that hold the vocabulary", () => {
  const sizes = [1, 256, 257, 65_536, 65_537].map((size) => tokenArrayOf(size).BYTES_PER_ELEMENT);
  expect(sizes).toEqual([1, 1, 2, 2, 4]);
});
