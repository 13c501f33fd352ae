import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { DataFileError } from "../../lib/errors.js";
import type { TextUnit } from "../../lib/data/text-format.js";
import { cutText, fileText, type TextPiece, type TextSource } from "../../lib/data/text-source.js";
import { testRandom } from "./test-random.js";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "text-"))));
afterAll(() => rm(folder, { recursive: true }));

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

function chunked(chunks: Uint8Array[]): TextSource {
  return {
    name: "chunks",
    begin: 7,
    async *chunks() {
      yield* chunks;
    },
  };
}

function expectToCover(pieces: TextPiece[], bytes: Buffer): void {
  let offset = 7;
  for (const piece of pieces) {
    expect(piece.offset).toBe(offset);
    expect(piece.bytes.length).toBeGreaterThan(0);
    offset += piece.bytes.length;
  }
  expect(Buffer.concat(pieces.map((piece) => piece.bytes))).toEqual(bytes);
}

describe("fileText", () => {
  test("streams a range of a file of many chunks, any number of times", async () => {
    const content = Buffer.from(testRandom(1).bytes(700_000));
    const path = join(folder, "large");
    await writeFile(path, content);
    const text = fileText(path, 5, 699_990);
    for (let round = 0; round < 2; round++) {
      expect(Buffer.concat(await collect(text.chunks())).equals(content.subarray(5, 699_990))).toBe(true);
    }
  });

  test("a missing file is named; a short one tells where it ends", async () => {
    const path = join(folder, "short");
    await writeFile(path, "abc");
    await expect(collect(fileText(path, 0, 5).chunks())).rejects.toThrow(
      /short: ends before byte 5 \(byte 3\)/,
    );
    const missing = collect(fileText(join(folder, "none"), 0, 1).chunks());
    await expect(missing).rejects.toThrow(/none: cannot be read: no such file/);
    await expect(collect(fileText(folder, 0, 1).chunks())).rejects.toThrow(DataFileError);
  });
});

describe("cutText", () => {
  const alphabet = ["a", "\n", "é", "文", "😀", " "];

  test.each<TextUnit>(["byte", "character", "line"])("cuts between units only: %s", async (unit) => {
    const random = testRandom(9);
    for (let round = 0; round < 300; round++) {
      const letters = Array.from(
        { length: random.below(30) },
        () => alphabet[random.below(alphabet.length)]!,
      );
      const bytes = Buffer.from(letters.join("") + (unit === "line" && letters.length > 0 ? "\n" : ""));
      const chunks: Uint8Array[] = [];
      for (let i = 0; i < bytes.length;) {
        const length = 1 + random.below(6);
        chunks.push(bytes.subarray(i, i + length));
        i += length;
      }
      const pieces = await collect(cutText(chunked(chunks), unit));
      expectToCover(pieces, bytes);
      for (const piece of pieces) {
        if (unit === "character") new TextDecoder("utf-8", { fatal: true }).decode(piece.bytes);
        if (unit === "line") expect(piece.bytes.at(-1)).toBe(10);
      }
    }
  });

  test("the last line gets its newline", async () => {
    const pieces = await collect(cutText(chunked([Buffer.from("a\nb")]), "line"));
    expect(pieces.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual(["a\n", "b\n"]);
  });

  test("bytes that are no UTF-8 pass through", async () => {
    const bytes = Buffer.alloc(20, 0x80);
    expectToCover(
      await collect(cutText(chunked([bytes.subarray(0, 3), bytes.subarray(3)]), "character")),
      bytes,
    );
  });
});
