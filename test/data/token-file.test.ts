import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { DataFileError, ValueError } from "../../lib/errors.js";
import { wordFormat } from "../../lib/data/text-format.js";
import { TokenFile, writeTokenFile } from "../../lib/data/token-file.js";
import { ByteTokenizer, SymbolTokenizer, type Tokenizer } from "../../lib/data/tokenizer.js";
import { Vocabulary } from "../../lib/data/vocabulary.js";
import { testRandom } from "./test-random.js";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "tokens-"))));
afterAll(() => rm(folder, { recursive: true }));

const pathOf = (name: string): string => join(folder, `${name}.tokens`);

async function* pieces(...parts: ArrayLike<number>[]): AsyncGenerator<Int32Array> {
  for (const part of parts) yield Int32Array.from(part);
}

function wordsOf(size: number): Tokenizer {
  const symbols = Array.from({ length: size }, (_, i) => `w${i}`);
  return new SymbolTokenizer(wordFormat({ end: "w0" }), new Vocabulary(symbols));
}

async function withFile<T>(path: string, use: (file: TokenFile) => Promise<T>): Promise<T> {
  const file = await TokenFile.open(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

describe("writing and reading", () => {
  test.each([
    [256, 1],
    [257, 2],
    [65_536, 2],
    [65_537, 4],
  ])("%i ids take %i bytes each and come back from any range", async (vocabSize, bytes) => {
    const tokenizer = wordsOf(vocabSize);
    const random = testRandom(vocabSize);
    const ids = Int32Array.from({ length: 1000 }, () => random.below(vocabSize));
    ids[0] = vocabSize - 1;
    const path = pathOf("range");
    await writeTokenFile(path, tokenizer, pieces(ids.subarray(0, 1), [], ids.subarray(1)), "from here");
    await withFile(path, async (file) => {
      expect([file.length, file.vocabSize, file.origin]).toEqual([1000, vocabSize, "from here"]);
      expect(file.tokenizer.toJSON()).toEqual(tokenizer.toJSON());
      for (let round = 0; round < 40; round++) {
        const offset = random.below(1001);
        const count = random.below(1001 - offset);
        expect(await file.read(offset, count)).toEqual(ids.slice(offset, offset + count));
      }
      await file.verify();
    });
    const data = (await readFile(path)).subarray(-1000 * bytes);
    expect(data.readUIntLE(0, bytes)).toBe(vocabSize - 1);
  });

  test("an empty text is valid; ranges outside are refused", async () => {
    await writeTokenFile(pathOf("empty"), new ByteTokenizer(), pieces());
    await withFile(pathOf("empty"), async (file) => {
      expect(file.length).toBe(0);
      expect(await file.read(0, 0)).toEqual(new Int32Array(0));
      for (const [offset, count] of [
        [0, 1],
        [-1, 1],
        [1, 0],
        [0, -1],
        [0.5, 0],
        [NaN, 0],
      ] as const) {
        await expect(file.read(offset, count)).rejects.toThrow(ValueError);
      }
    });
  });

  test("a stream that fails leaves the old file and no temporary one", async () => {
    const path = pathOf("kept");
    await writeTokenFile(path, new ByteTokenizer(), pieces([1, 2, 3]));
    const before = await readFile(path);
    await expect(writeTokenFile(path, wordsOf(2), pieces([1, 2]))).rejects.toThrow(/token 2 at index 1/);
    expect(await readFile(path)).toEqual(before);
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("a missing folder or file is named", async () => {
    const path = join(folder, "none", "a.tokens");
    await expect(writeTokenFile(path, new ByteTokenizer(), pieces())).rejects.toThrow(
      /none.*cannot be written: no such/,
    );
    await expect(TokenFile.open(path)).rejects.toThrow(/none.*cannot be read: no such/);
    await expect(TokenFile.open(folder)).rejects.toThrow(DataFileError);
  });
});

describe("damaged files", () => {
  const ids = Array.from({ length: 300 }, (_, i) => (i * 7) % 90);
  let original: Buffer;
  let dataStart: number;
  beforeAll(async () => {
    await writeTokenFile(pathOf("original"), wordsOf(90), pieces(ids));
    original = await readFile(pathOf("original"));
    dataStart = original.length - ids.length;
  });

  async function openError(content: Uint8Array): Promise<DataFileError> {
    const path = pathOf("damaged");
    await writeFile(path, content);
    const outcome = await TokenFile.open(path).then(
      (file) => file.close(),
      (error: unknown) => error,
    );
    expect(outcome).toBeInstanceOf(DataFileError);
    return outcome as DataFileError;
  }

  function changed(offset: number, value: number): Buffer {
    const copy = Buffer.from(original);
    copy.writeUInt32LE(value, offset);
    return copy;
  }

  test("each field of the header is checked", async () => {
    for (const [content, message, offset] of [
      [Buffer.alloc(0), "bad magic", 0],
      [Buffer.from("GIF89a and more bytes than the header has"), "bad magic", 0],
      [original.subarray(0, 39), "ends inside its header", 39],
      [changed(8, 2), "version 2, expected 1", 8],
      [changed(20, 2 ** 31), "is cut", 20],
      [changed(16, 91), "checksum differs", 36],
      [changed(44, 0), "checksum differs", 36],
      [original.subarray(0, -1), `has ${original.length - 1} bytes`, original.length - 1],
      [original.subarray(0, dataStart), `header tells of ${original.length}`, dataStart],
      [Buffer.concat([original, Buffer.alloc(1)]), `has ${original.length + 1} bytes`, original.length],
    ] as const) {
      const error = await openError(content);
      expect(error.message).toContain(message);
      expect(error.offset).toBe(offset);
      expect(error.fix).toContain("prepare it again");
    }
  });

  test("an id outside the vocabulary is named with its byte", async () => {
    const copy = Buffer.from(original);
    copy[dataStart + 17] = 90;
    await writeFile(pathOf("outside"), copy);
    await withFile(pathOf("outside"), async (file) => {
      expect(await file.read(0, 17)).toEqual(Int32Array.from(ids.slice(0, 17)));
      await expect(file.read(10, 20)).rejects.toThrow(
        `token 90 at index 7 is outside [0, 90) (byte ${dataStart + 17})`,
      );
    });
  });

  test("changed tokens that are valid ids are found by verify", async () => {
    const copy = Buffer.from(original);
    copy[dataStart + 17]! ^= 1;
    await writeFile(pathOf("changed"), copy);
    await withFile(pathOf("changed"), async (file) => {
      await expect(file.verify()).rejects.toThrow("differ from those written");
    });
  });

  test("a file cut while open is noticed", async () => {
    await writeFile(pathOf("cut"), original);
    await withFile(pathOf("cut"), async (file) => {
      const handle = await open(pathOf("cut"), "r+");
      await handle.truncate(dataStart + 100);
      await handle.close();
      for (const offset of [0, 50]) {
        await expect(file.read(offset, 100)).rejects.toThrow(`cut while open (byte ${dataStart + 100})`);
      }
    });
  });

  test("a file written to while open is noticed, with the byte it was read from", async () => {
    await writeFile(pathOf("written"), original);
    await withFile(pathOf("written"), async (file) => {
      expect((await file.read(0, 100)).length).toBe(100);
      await new Promise((resolve) => setTimeout(resolve, 50)); // clocks of file systems tick slowly
      const handle = await open(pathOf("written"), "r+");
      await handle.write(Uint8Array.of(original[dataStart]! ^ 1), 0, 1, dataStart);
      await handle.close();
      await expect(file.read(50, 100)).rejects.toThrow(`changed while open, read from here (byte`);
    });
  });

  test("no single changed byte of the header, and no cut, goes unnoticed", async () => {
    const random = testRandom(13);
    for (let round = 0; round < 300; round++) {
      const copy = Buffer.from(original);
      const at = random.below(dataStart);
      copy[at]! ^= 1 + random.below(255);
      await openError(round % 3 === 0 ? original.subarray(0, random.below(original.length)) : copy);
    }
  });
});
