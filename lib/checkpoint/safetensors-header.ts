/**
 * The header of a safetensors file: a JSON object that places each tensor in the data section.
 *
 *     { "<name>": { "dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end] }, "__metadata__": { … } }
 *
 * Headers come from untrusted files, so nothing is believed before it is checked.
 */

import { CheckpointError } from "../errors.js";

/** Element types, with the typed array that holds their raw values (F16 and BF16 as bit patterns). */
export const safetensorsDTypes = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  U16: Uint16Array,
  I16: Int16Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  U32: Uint32Array,
  I32: Int32Array,
  F32: Float32Array,
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
} as const;

export type SafetensorsDType = keyof typeof safetensorsDTypes;

/** Where one tensor lies. `begin` and `end` are bytes from the start of the data section. */
export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** By position in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

export const METADATA_KEY = "__metadata__";
/** Metadata key of the CRC-32 of the whole file, eight hexadecimal digits, computed with {@link NO_CHECKSUM} there. */
export const CHECKSUM_KEY = "crc32";
export const NO_CHECKSUM = "00000000";
/** Bytes before the header: its length, u64 little-endian. */
export const LENGTH_BYTES = 8;
export const MAX_HEADER_BYTES = 100_000_000;

// Wider than any real file, small enough that a hostile header cannot exhaust memory.
const MAX_OBJECT_KEYS = 1_000_000;
const MAX_RANK = 64;
const MAX_DEPTH = 3;

export const DAMAGED_FIX = "the file is damaged or no safetensors file: copy, download or save it again";

/**
 * Reads and checks a header against the size of the data section that follows it.
 *
 * @throws {CheckpointError} naming the byte of the offending entry when the JSON is malformed or has duplicate
 *   keys, a field is missing or wrong, or the tensors do not cover the data section exactly, in order.
 */
export function parseHeader(path: string, bytes: Uint8Array, dataBytes: number): SafetensorsHeader {
  const text = decodeUtf8(path, bytes);
  const byteAt = (index: number): number => LENGTH_BYTES + Buffer.byteLength(text.slice(0, index));
  const fail = (index: number, reason: string): never => {
    throw new CheckpointError(path, byteAt(index), reason, DAMAGED_FIX);
  };
  const keys = scanKeys(text, fail);
  let root: Record<string, unknown>;
  try {
    root = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    return fail(0, `the header is not valid JSON: ${(error as Error).message.slice(0, 200)}`);
  }
  const entries: [name: string, info: TensorInfo][] = [];
  let metadata = new Map<string, string>();
  for (const [key, index] of keys) {
    const failHere = (reason: string): never => fail(index, `${quote(key)}: ${reason}`);
    if (key === METADATA_KEY) metadata = parseMetadata(root[key], failHere);
    else entries.push([key, parseEntry(root[key], failHere)]);
  }
  entries.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let end = 0;
  for (const [name, info] of entries) {
    if (info.begin !== end) {
      const problem = info.begin < end ? "overlaps the tensor before it" : "leaves a hole before it";
      fail(keys.get(name) ?? 0, `${quote(name)}: ${problem} (begins at ${info.begin}, expected ${end})`);
    }
    end = info.end;
  }
  if (end !== dataBytes) {
    const reason = `the header describes ${end} bytes of data, the file holds ${dataBytes}`;
    throw new CheckpointError(
      path,
      LENGTH_BYTES + bytes.length + Math.min(end, dataBytes),
      reason,
      DAMAGED_FIX,
    );
  }
  return { tensors: new Map(entries), metadata };
}

/** The header for tensors given in the order of their data, padded with spaces to 8 bytes as the format asks. */
export function formatHeader(
  tensors: ReadonlyMap<string, TensorInfo>,
  metadata: ReadonlyMap<string, string>,
): Uint8Array {
  const members: string[] = [];
  if (metadata.size > 0) {
    const sorted = [...metadata].sort(([a], [b]) => (a < b ? -1 : 1));
    const pairs = sorted.map(([key, text]) => `${JSON.stringify(key)}:${JSON.stringify(text)}`);
    members.push(`"${METADATA_KEY}":{${pairs.join(",")}}`);
  }
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    members.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  }
  const json = Buffer.from(`{${members.join(",")}}`);
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, " ");
  json.copy(padded);
  return padded;
}

/** Where the digits of the checksum stand; `bytes` begin with the header or the file. Quotes inside strings are escaped. */
export function findChecksum(bytes: Uint8Array): number | undefined {
  const key = `"${CHECKSUM_KEY}":"`;
  const index = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf(key);
  const begin = index + key.length;
  return index < 0 || begin + NO_CHECKSUM.length > bytes.length ? undefined : begin;
}

/** Bytes of a tensor, or undefined when the size is no exact integer. */
export function tensorBytes(dtype: SafetensorsDType, shape: readonly number[]): number | undefined {
  let bytes = safetensorsDTypes[dtype].BYTES_PER_ELEMENT;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) return undefined;
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) return undefined;
  }
  return bytes;
}

function parseEntry(value: unknown, fail: (reason: string) => never): TensorInfo {
  if (!isObject(value)) return fail("expected an object");
  const { dtype, shape, data_offsets: offsets, ...rest } = value;
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) return fail(`unknown field ${quote(unknown)}`);
  if (typeof dtype !== "string" || !Object.hasOwn(safetensorsDTypes, dtype)) {
    return fail(
      `unknown dtype ${quote(String(dtype))} (known: ${Object.keys(safetensorsDTypes).join(", ")})`,
    );
  }
  if (!isSizes(shape)) return fail("the shape must be a list of integers >= 0");
  if (!isSizes(offsets) || offsets.length !== 2) return fail("data_offsets must be two integers >= 0");
  const [begin, end] = offsets as [number, number];
  const expected = tensorBytes(dtype as SafetensorsDType, shape);
  if (expected === undefined) return fail(`the shape [${shape.join(", ")}] overflows`);
  if (end - begin !== expected) {
    return fail(`${dtype} [${shape.join(", ")}] takes ${expected} bytes, data_offsets span ${end - begin}`);
  }
  return { dtype: dtype as SafetensorsDType, shape, begin, end };
}

function parseMetadata(value: unknown, fail: (reason: string) => never): Map<string, string> {
  if (!isObject(value)) return fail("expected an object of strings");
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") return fail(`the value of ${quote(key)} is no string`);
    metadata.set(key, text);
  }
  return metadata;
}

/**
 * Positions of the keys of the outermost object. JSON.parse keeps the last of two equal keys and builds whatever
 * it is given, so repeated keys and oversized structures are refused here, before it runs.
 */
function scanKeys(text: string, fail: (index: number, reason: string) => never): Map<string, number> {
  if (text[0] !== "{") return fail(0, "the header does not start with {");
  const outermost = new Map<string, number>();
  // One entry per open bracket: the keys of an object, or the item count of an array.
  const open: (Map<string, number> | { items: number })[] = [];
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    const inner = open[open.length - 1];
    switch (text.charAt(i)) {
      case "{":
      case "[":
        if (open.length === MAX_DEPTH) return fail(i, "the header is nested too deeply");
        expectsKey = text[i] === "{";
        open.push(!expectsKey ? { items: 1 } : open.length === 0 ? outermost : new Map<string, number>());
        break;
      case "}":
      case "]":
        open.pop();
        expectsKey = false;
        break;
      case ",":
        expectsKey = inner instanceof Map;
        if (inner !== undefined && !(inner instanceof Map) && ++inner.items > MAX_RANK) {
          return fail(i, `a list is longer than ${MAX_RANK}`);
        }
        break;
      case '"': {
        const start = i;
        for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
        if (!expectsKey || !(inner instanceof Map)) break;
        expectsKey = false;
        const key = parseString(text.slice(start, i + 1));
        if (key === undefined) return fail(start, "the header is not valid JSON: malformed string");
        if (inner.has(key)) return fail(start, `duplicate key ${quote(key)}`);
        if (inner.size === MAX_OBJECT_KEYS) return fail(start, `more than ${MAX_OBJECT_KEYS} keys`);
        inner.set(key, start);
      }
    }
  }
  return outermost;
}

function parseString(json: string): string | undefined {
  try {
    return JSON.parse(json) as string;
  } catch {
    return undefined;
  }
}

function decodeUtf8(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new CheckpointError(path, LENGTH_BYTES, "the header is not valid UTF-8", DAMAGED_FIX);
  }
}

/** A name as JSON, shortened so that a hostile one cannot flood a message. */
function quote(name: string): string {
  return JSON.stringify(name.length > 100 ? `${name.slice(0, 100)}…` : name);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}
