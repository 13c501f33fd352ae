/**
 * Reader and writer of the safetensors format: u64 header length, JSON header, raw little-endian tensors.
 *
 * Opening reads only the header; tensors are read one by one. Every file is treated as untrusted.
 */

import { open, type FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { CheckpointError } from "../errors.js";
import { fileErrorReason, readFully, writeAtomically, writeFully } from "../files.js";
import {
  CHECKSUM_KEY,
  DAMAGED_FIX,
  findChecksum,
  formatHeader,
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  NO_CHECKSUM,
  parseHeader,
  safetensorsDTypes,
  tensorBytes,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorInfo,
} from "./safetensors-header.js";

export type { SafetensorsDType, TensorInfo };

/** Raw values of a tensor: the typed array of its dtype, F16 and BF16 as `Uint16Array` bit patterns. */
export type SafetensorsData =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

// Checksums and file calls go in pieces: a large tensor must not hold up the event loop.
const PIECE_BYTES = 2 ** 22;

/** A tensor on the host, row-major. */
export interface SafetensorsTensor {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly data: SafetensorsData;
}

/** A tensor to write; `data` may be fetched when its turn comes, so that large models need not be on the host. */
export interface SafetensorsSource {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly data: SafetensorsData | (() => Promise<SafetensorsData>);
}

/**
 * An open safetensors file.
 *
 * @example
 * const file = await SafetensorsFile.open("model.safetensors");
 * const { shape, data } = await file.read("word_emb.weight");
 * await file.close();
 */
export class SafetensorsFile {
  /** Tensors by name, in file order. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;

  private constructor(
    readonly path: string,
    private readonly handle: FileHandle,
    private readonly size: number,
    private readonly dataStart: number,
    header: SafetensorsHeader,
  ) {
    this.tensors = header.tensors;
    this.metadata = header.metadata;
  }

  /**
   * Opens `path` and checks its header, at most 100 MB, against the file size. No tensor is read.
   *
   * @throws {CheckpointError} with the byte and the reason, if the file cannot be read or breaks the format.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await open(path, "r").catch((error: unknown) => {
      throw new CheckpointError(path, undefined, readReason(error), "check the path and its permissions");
    });
    try {
      return await SafetensorsFile.readHeader(path, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  private static async readHeader(path: string, handle: FileHandle): Promise<SafetensorsFile> {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new CheckpointError(path, undefined, "is no file", "pass the path of a file");
    const prefix = await readBytes(path, handle, LENGTH_BYTES, 0);
    const length = new DataView(prefix.buffer).getBigUint64(0, true);
    const room = Math.min(MAX_HEADER_BYTES, stat.size - LENGTH_BYTES);
    if (length > BigInt(room)) {
      throw new CheckpointError(path, 0, `the header length is ${length}, at most ${room} fits`, DAMAGED_FIX);
    }
    const dataStart = LENGTH_BYTES + Number(length);
    const bytes = await readBytes(path, handle, Number(length), LENGTH_BYTES);
    const header = parseHeader(path, bytes, stat.size - dataStart);
    return new SafetensorsFile(path, handle, stat.size, dataStart, header);
  }

  /**
   * Reads one tensor into a new typed array.
   *
   * @throws {CheckpointError} if the file has no such tensor, changed since it was opened, or holds a BOOL that
   *   is neither 0 nor 1.
   */
  async read(name: string): Promise<SafetensorsTensor> {
    const info = this.tensors.get(name);
    if (info === undefined) {
      const known = [...this.tensors.keys()].slice(0, 8).join(", ");
      const fix = `ask for one of its ${this.tensors.size} tensors: ${known}${this.tensors.size > 8 ? ", …" : ""}`;
      throw new CheckpointError(this.path, undefined, `has no tensor "${name}"`, fix);
    }
    const { dtype, shape, begin, end } = info;
    const position = this.dataStart + begin;
    const bytes = await readBytes(this.path, this.handle, end - begin, position);
    if (dtype === "BOOL") {
      const bad = bytes.findIndex((byte) => byte > 1);
      if (bad >= 0) {
        throw new CheckpointError(
          this.path,
          position + bad,
          `"${name}": ${bytes[bad]} is no BOOL`,
          DAMAGED_FIX,
        );
      }
    }
    return { dtype, shape, data: new safetensorsDTypes[dtype](bytes.buffer) };
  }

  /**
   * Reads the file once through, a piece at a time, and compares it with the checksum it was written with.
   *
   * @throws {CheckpointError} if it has no checksum, or a single bit is not as it was.
   */
  async verify(): Promise<void> {
    const head = await readBytes(this.path, this.handle, this.dataStart, 0);
    const at = findChecksum(head);
    if (at === undefined) {
      throw new CheckpointError(this.path, undefined, "has no checksum", "pass a file that training wrote");
    }
    head.set(Buffer.from(NO_CHECKSUM), at);
    let crc = crc32(head);
    for (let begin = this.dataStart; begin < this.size; begin += PIECE_BYTES) {
      const length = Math.min(PIECE_BYTES, this.size - begin);
      crc = crc32(await readBytes(this.path, this.handle, length, begin), crc);
    }
    if (formatChecksum(crc) !== this.metadata.get(CHECKSUM_KEY)) {
      throw new CheckpointError(this.path, undefined, "differs from what was written", DAMAGED_FIX);
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Reads a whole file: every tensor and the metadata. Errors as {@link SafetensorsFile}. */
export async function readSafetensors(
  path: string,
): Promise<{ tensors: Map<string, SafetensorsTensor>; metadata: ReadonlyMap<string, string> }> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, SafetensorsTensor>();
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
    return { tensors, metadata: file.metadata };
  } finally {
    await file.close();
  }
}

/**
 * Writes tensors and metadata; the same content always gives the same bytes.
 *
 * Tensors lie by falling element size, then by name, so that each is aligned. The file appears at `path` complete
 * or not at all, and is on the disk when the promise resolves.
 *
 * @throws {CheckpointError} if a shape or dtype does not match its data, or the file cannot be written.
 */
export async function writeSafetensors(
  path: string,
  tensors: ReadonlyMap<string, SafetensorsSource>,
  metadata: ReadonlyMap<string, string> = new Map(),
  {
    checksum = false,
  }: {
    /** Adds a checksum of the whole file to the metadata, for {@link SafetensorsFile.verify}. Default false. */
    checksum?: boolean;
  } = {},
): Promise<void> {
  const placed = placeTensors(path, tensors);
  const header = formatHeader(
    placed,
    checksum ? new Map([...metadata, [CHECKSUM_KEY, NO_CHECKSUM]]) : metadata,
  );
  if (header.length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      path,
      undefined,
      `the header takes ${header.length} bytes`,
      "write fewer tensors",
    );
  }
  const head = Buffer.alloc(LENGTH_BYTES + header.length);
  head.writeBigUInt64LE(BigInt(header.length));
  head.set(header, LENGTH_BYTES);
  let end = head.length;
  try {
    await writeAtomically(path, async (handle) => {
      await writeFully(handle, head, 0);
      let crc = crc32(head);
      for (const [name, info] of placed) {
        const { data } = tensors.get(name) as SafetensorsSource;
        const bytes = rawBytes(path, name, info, typeof data === "function" ? await data() : data);
        for (let begin = 0; begin < bytes.length; begin += PIECE_BYTES) {
          const piece = bytes.subarray(begin, begin + PIECE_BYTES);
          if (checksum) crc = crc32(piece, crc);
          await writeFully(handle, piece, end);
          end += piece.length;
        }
      }
      if (checksum) await writeFully(handle, Buffer.from(formatChecksum(crc)), findChecksum(head) ?? 0);
    });
  } catch (error) {
    throw writeError(path, error, end);
  }
}

function formatChecksum(crc: number): string {
  return crc.toString(16).padStart(NO_CHECKSUM.length, "0");
}

/** What to tell about a failed write; errors that have nothing to do with the file pass. */
function writeError(path: string, error: unknown, bytes: number): unknown {
  const reason = fileErrorReason(error);
  if (reason === undefined) return error;
  const { code = "" } = error as NodeJS.ErrnoException;
  const isFull = ["ENOSPC", "EDQUOT", "EFBIG"].includes(code);
  const fix = isFull
    ? "make room or write to another folder; files written before are intact"
    : "check the folder and its permissions";
  const progress = isFull ? ` after ${String(bytes)} bytes` : "";
  return new CheckpointError(path, undefined, `cannot be written: ${reason}${progress}`, fix);
}

/**
 * The values as numbers; integers beyond 2^53 are rounded. The tensor's own array if it is F64, else a new one;
 * {@link toFloat32} does the same for F32.
 */
export function toFloat64(tensor: SafetensorsTensor): Float64Array {
  const { dtype, data } = tensor;
  if (data instanceof Float64Array) return data;
  const values = new Float64Array(data.length);
  const convert = dtype === "F16" ? halfToNumber : dtype === "BF16" ? bfloatToNumber : Number;
  for (let i = 0; i < values.length; i++) values[i] = convert(data[i] as number);
  return values;
}

/** The values rounded to float32. */
export function toFloat32(tensor: SafetensorsTensor): Float32Array {
  return tensor.data instanceof Float32Array ? tensor.data : Float32Array.from(toFloat64(tensor));
}

/**
 * The values of an integer or BOOL tensor as int32.
 *
 * @throws {CheckpointError} if the dtype is a float or a value does not fit; `name` is used in the message.
 */
export function toInt32(tensor: SafetensorsTensor, name = "tensor"): Int32Array {
  const { dtype, data } = tensor;
  const fail = (reason: string): never => {
    throw new CheckpointError(name, undefined, reason, "read it as floats, or save it as I32");
  };
  if (["F16", "BF16", "F32", "F64"].includes(dtype)) return fail(`${dtype} is no integer dtype`);
  const values = Int32Array.from(toFloat64(tensor));
  const misfit = values.findIndex((value, i) => value !== Number(data[i]));
  return misfit < 0 ? values : fail(`${dtype} value ${String(data[misfit])} at index ${misfit} is no int32`);
}

function placeTensors(
  path: string,
  tensors: ReadonlyMap<string, SafetensorsSource>,
): Map<string, TensorInfo> {
  const width = ({ dtype }: SafetensorsSource): number => safetensorsDTypes[dtype].BYTES_PER_ELEMENT;
  const sorted = [...tensors].sort(([a, s], [b, t]) => width(t) - width(s) || (a < b ? -1 : 1));
  const placed = new Map<string, TensorInfo>();
  let begin = 0;
  for (const [name, { dtype, shape }] of sorted) {
    const bytes = tensorBytes(dtype, shape);
    if (bytes === undefined || name === METADATA_KEY) {
      const reason = bytes === undefined ? `has no valid shape: [${shape.join(", ")}]` : "is a reserved name";
      throw new CheckpointError(path, undefined, `"${name}" ${reason}`, "fix the tensor before saving");
    }
    placed.set(name, { dtype, shape: [...shape], begin, end: begin + bytes });
    begin += bytes;
  }
  return placed;
}

function rawBytes(path: string, name: string, info: TensorInfo, data: SafetensorsData): Uint8Array {
  const { dtype, shape, begin, end } = info;
  if (!(data instanceof safetensorsDTypes[dtype]) || data.byteLength !== end - begin) {
    const reason = `"${name}": ${data.constructor.name} of ${data.length} is no ${dtype} [${shape.join(", ")}]`;
    throw new CheckpointError(path, undefined, reason, "pass data of the declared dtype and shape");
  }
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function readBytes(
  path: string,
  handle: FileHandle,
  length: number,
  position: number,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const bytes = new Uint8Array(length);
    const read = await readFully(handle, bytes, position);
    if (read === length) return bytes;
    throw new CheckpointError(path, position + read, `ends ${length - read} bytes early`, DAMAGED_FIX);
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(
      path,
      position,
      readReason(error),
      "close other programs, or read it on a larger machine",
    );
  }
}

function readReason(error: unknown): string {
  return `cannot be read: ${fileErrorReason(error) ?? (error as Error).message}`;
}

function bfloatToNumber(bits: number): number {
  floatBits[0] = bits << 16;
  return floatValue[0] as number;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const floatBits = new Uint32Array(1);
const floatValue = new Float32Array(floatBits.buffer);
