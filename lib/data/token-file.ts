/**
 * Prepared token files: a tokenizer and the token ids of one text, read by position and never whole.
 *
 *     0   magic "HRTOKENS"
 *     8   u32 version       12  u32 bytes per token (1, 2, 4)
 *     16  u32 vocabulary    20  u32 bytes of JSON
 *     24  u64 tokens        32  u32 CRC-32 of the tokens    36  u32 CRC-32 of bytes 0 … 35 and the JSON
 *     40  JSON { tokenizer, origin }, padded with spaces to a multiple of 8
 *         token ids
 *
 * Numbers are little-endian. `origin` tells which text, and which version of it, the tokens were made from.
 */

import { crc32 } from "node:zlib";
import { DataFileError, HyperRouterError } from "../errors.js";
import { fileErrorReason, writeAtomically, writeFully } from "../files.js";
import { DataFile } from "./data-file.js";
import { checkIds, checkRange, tokenArrayOf, type TokenSource } from "./token-source.js";
import { tokenizerFromJson, type Tokenizer } from "./tokenizer.js";

const MAGIC = "HRTOKENS";
const VERSION = 1;
const FIXED_BYTES = 40;
const MAX_JSON_BYTES = 2 ** 28;
const VERIFY_TOKENS = 1 << 20;
const FIX = "delete the file and prepare it again from the text";

interface Header {
  readonly tokenizer: Tokenizer;
  readonly origin: string;
  readonly length: number;
  readonly dataStart: number;
  readonly dataCrc: number;
}

/**
 * An open token file.
 *
 * @example
 * const file = await TokenFile.open("train.tokens");
 * const ids = await file.read(0, 512); // Int32Array
 * await file.close();
 */
export class TokenFile implements TokenSource {
  readonly tokenizer: Tokenizer;
  readonly origin: string;
  readonly length: number;
  readonly vocabSize: number;
  private readonly bytesPerToken: number;

  private constructor(
    private readonly file: DataFile,
    private readonly header: Header,
  ) {
    this.tokenizer = header.tokenizer;
    this.origin = header.origin;
    this.length = header.length;
    this.vocabSize = header.tokenizer.vocabSize;
    this.bytesPerToken = tokenArrayOf(this.vocabSize).BYTES_PER_ELEMENT;
  }

  /**
   * Opens `path` and checks its header against the file size; no token is read.
   *
   * @throws {DataFileError} with the byte and the reason, if the file is missing, truncated or no token file.
   */
  static async open(path: string): Promise<TokenFile> {
    const file = await DataFile.open(path);
    try {
      return new TokenFile(file, await readHeader(file));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** @throws {DataFileError} if the file changed since it was opened or holds an id outside the vocabulary. */
  async read(offset: number, count: number): Promise<Int32Array> {
    checkRange("TokenFile.read", offset, count, this.length);
    const bytes = await this.readData(offset, count);
    const ids = new (tokenArrayOf(this.vocabSize))(bytes.buffer);
    checkIds(ids, this.vocabSize, (reason, index) => {
      return new DataFileError(this.file.path, this.positionOf(offset + index), reason, FIX);
    });
    return Int32Array.from(ids);
  }

  /** Reads the file once through. @throws {DataFileError} if the tokens are not those that were written. */
  async verify(): Promise<void> {
    let crc = 0;
    for (let offset = 0; offset < this.length; offset += VERIFY_TOKENS) {
      crc = crc32(await this.readData(offset, Math.min(VERIFY_TOKENS, this.length - offset)), crc);
    }
    if (crc !== this.header.dataCrc) {
      throw new DataFileError(
        this.file.path,
        this.header.dataStart,
        "the tokens differ from those written",
        FIX,
      );
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private positionOf(token: number): number {
    return this.header.dataStart + token * this.bytesPerToken;
  }

  private async readData(offset: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(count * this.bytesPerToken);
    await this.file.read(bytes, this.positionOf(offset));
    return bytes;
  }
}

/**
 * Writes a token file from a stream of ids, in memory that does not grow with it. The file appears complete or
 * not at all.
 *
 * @param origin Kept in the file, to tell later whether it belongs to a text.
 * @throws {DataFileError} if the file cannot be written or an id is outside the vocabulary.
 */
export async function writeTokenFile(
  path: string,
  tokenizer: Tokenizer,
  pieces: AsyncIterable<Int32Array>,
  origin = "",
): Promise<void> {
  const json = headerJson(tokenizer, origin);
  const ArrayClass = tokenArrayOf(tokenizer.vocabSize);
  try {
    await writeAtomically(path, async (handle) => {
      let position = FIXED_BYTES + json.length;
      let length = 0;
      let crc = 0;
      for await (const piece of pieces) {
        if (piece.length === 0) continue; // crc32 of an empty array forgets the value it is given
        checkIds(
          piece,
          tokenizer.vocabSize,
          (reason) => new DataFileError(path, position, reason, "report this"),
        );
        const bytes = new Uint8Array(ArrayClass.from(piece).buffer);
        await writeFully(handle, bytes, position);
        crc = crc32(bytes, crc);
        position += bytes.length;
        length += piece.length;
      }
      await writeFully(handle, json, FIXED_BYTES);
      await writeFully(handle, fixedHeader(tokenizer.vocabSize, json, length, crc), 0);
    });
  } catch (error) {
    const reason = fileErrorReason(error);
    if (reason === undefined) throw error;
    throw new DataFileError(
      path,
      undefined,
      `cannot be written: ${reason}`,
      "check the folder and the free space",
    );
  }
}

function headerJson(tokenizer: Tokenizer, origin: string): Uint8Array {
  const text = Buffer.from(JSON.stringify({ tokenizer, origin }));
  const json = Buffer.alloc(Math.ceil(text.length / 8) * 8, " ");
  text.copy(json);
  return json;
}

function fixedHeader(vocabSize: number, json: Uint8Array, length: number, dataCrc: number): Buffer {
  const fixed = Buffer.alloc(FIXED_BYTES);
  fixed.write(MAGIC, 0, "latin1");
  fixed.writeUInt32LE(VERSION, 8);
  fixed.writeUInt32LE(tokenArrayOf(vocabSize).BYTES_PER_ELEMENT, 12);
  fixed.writeUInt32LE(vocabSize, 16);
  fixed.writeUInt32LE(json.length, 20);
  fixed.writeBigUInt64LE(BigInt(length), 24);
  fixed.writeUInt32LE(dataCrc, 32);
  fixed.writeUInt32LE(headerCrc(fixed, json), 36);
  return fixed;
}

function headerCrc(fixed: Uint8Array, json: Uint8Array): number {
  return crc32(json, crc32(fixed.subarray(0, 36)));
}

async function readHeader(file: DataFile): Promise<Header> {
  const fail = (offset: number, reason: string): never => {
    throw new DataFileError(file.path, offset, reason, FIX);
  };
  const fixed = Buffer.alloc(FIXED_BYTES);
  const read = await file.read(fixed, 0);
  if (fixed.toString("latin1", 0, MAGIC.length) !== MAGIC) fail(0, "bad magic: it is no token file");
  if (read < FIXED_BYTES) fail(read, "ends inside its header");
  const version = fixed.readUInt32LE(8);
  if (version !== VERSION) fail(8, `has version ${version}, expected ${VERSION}`);
  const jsonBytes = fixed.readUInt32LE(20);
  if (jsonBytes > Math.min(MAX_JSON_BYTES, file.size - FIXED_BYTES))
    fail(20, `its JSON of ${jsonBytes} bytes is cut`);
  const json = Buffer.alloc(jsonBytes);
  await file.read(json, FIXED_BYTES);
  if (fixed.readUInt32LE(36) !== headerCrc(fixed, json))
    fail(36, "its header is damaged: the checksum differs");
  const { tokenizer, origin } = parseJson(json, fail);
  const vocabSize = fixed.readUInt32LE(16);
  if (vocabSize !== tokenizer.vocabSize)
    fail(16, `has ${vocabSize} ids, its tokenizer ${tokenizer.vocabSize}`);
  const bytesPerToken = tokenArrayOf(vocabSize).BYTES_PER_ELEMENT;
  if (fixed.readUInt32LE(12) !== bytesPerToken)
    fail(12, `${vocabSize} ids take ${bytesPerToken} bytes per token`);
  const length = Number(fixed.readBigUInt64LE(24));
  const dataStart = FIXED_BYTES + jsonBytes;
  const expected = dataStart + length * bytesPerToken;
  if (file.size !== expected) {
    fail(Math.min(file.size, expected), `has ${file.size} bytes, its header tells of ${expected}`);
  }
  return { tokenizer, origin, length, dataStart, dataCrc: fixed.readUInt32LE(32) };
}

function parseJson(
  json: Buffer,
  fail: (offset: number, reason: string) => never,
): { tokenizer: Tokenizer; origin: string } {
  try {
    const { tokenizer, origin } = JSON.parse(json.toString()) as Record<string, unknown>;
    return { tokenizer: tokenizerFromJson(tokenizer), origin: String(origin) };
  } catch (error) {
    const reason = error instanceof HyperRouterError ? error.reason : (error as Error).message;
    return fail(FIXED_BYTES, `its tokenizer cannot be read: ${reason.slice(0, 200)}`);
  }
}
