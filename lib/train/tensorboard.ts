/**
 * TensorBoard event files: a sequence of framed protocol buffers.
 *
 *     frame      u64 bytes of data | u32 checksum of those 8 bytes | data | u32 checksum of data      little-endian
 *     checksum   CRC-32C, rotated right by 15 bits, plus 0xa282ead8
 *     data       Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5;
 *                          SessionLog session_log = 7 }
 *                Summary { repeated Value value = 1 }    Value { string tag = 1; float simple_value = 2 }
 *                SessionLog { enum status = 1 }, 1 = START: events of earlier files from this step on are void
 */

import { type FileHandle, mkdir, open } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Metrics, MetricsSink } from "./metrics.js";

/** Writes metrics as scalars that TensorBoard shows: `tensorboard --logdir runs`. */
export class TensorBoardFile implements MetricsSink {
  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
  ) {}

  /** Makes a new file in a folder, which may hold those of earlier runs: TensorBoard joins them. */
  static async create(folder: string): Promise<TensorBoardFile> {
    await mkdir(folder, { recursive: true });
    const milliseconds = Date.now();
    const seconds = String(Math.floor(milliseconds / 1000)).padStart(10, "0");
    const name = `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.${milliseconds % 1000}`;
    const path = join(folder, name);
    const writer = new TensorBoardFile(path, await open(path, "wx"));
    await writer.#append(milliseconds / 1000, 0, bytesField(3, Buffer.from("brain.Event:2")));
    return writer;
  }

  async write(metrics: Metrics): Promise<void> {
    const { time, step } = metrics;
    if (metrics.type === "start") await this.#append(time, step + 1, bytesField(7, varintField(1, 1n)));
    else await this.scalars(step, scalarsOf(metrics), time);
  }

  /** Writes numbers by tag. @param time Seconds since 1970. */
  async scalars(step: number, scalars: ReadonlyMap<string, number>, time = Date.now() / 1000): Promise<void> {
    const values = [...scalars].map(([tag, value]) =>
      bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, value)])),
    );
    await this.#append(time, step, bytesField(5, Buffer.concat(values)));
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  async #append(time: number, step: number, what: Buffer): Promise<void> {
    await this.file.appendFile(
      frame(Buffer.concat([doubleField(1, time), varintField(2, BigInt(step)), what])),
    );
  }
}

/** Every number of a record by tag: `training/loss`, `validation/routerEntropy/0`, `test/k=4/bpc`. */
function scalarsOf({ type, step: _step, time: _time, ...metrics }: Metrics): Map<string, number> {
  const group = type === "test" && "topK" in metrics ? `${type}/k=${String(metrics.topK)}` : type;
  const scalars = new Map<string, number>();
  for (const [key, value] of Object.entries(metrics)) {
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    values.forEach((entry, i) => {
      if (typeof entry !== "number") return;
      scalars.set(`${group}/${key}${Array.isArray(value) ? `/${String(i)}` : ""}`, entry);
    });
  }
  return scalars;
}

function frame(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, maskedChecksum(length), data, maskedChecksum(data)]);
}

function maskedChecksum(bytes: Uint8Array): Buffer {
  const crc = crc32c(bytes);
  const masked = (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(masked);
  return buffer;
}

// Of each byte, for the polynomial 0x1edc6f41 with its bits reversed (Castagnoli et al. 1993).
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C. @internal */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (crcTable[(crc ^ byte) & 0xff] ?? 0);
  return ~crc >>> 0;
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let left = value;
  for (; left > 0x7fn; left >>= 7n) bytes.push(Number(left & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(left)]);
}

/** The key of a field: its number and how it is encoded. */
function key(field: number, encoding: "varint" | "double" | "bytes" | "float"): Buffer {
  return varint(BigInt((field << 3) | { varint: 0, double: 1, bytes: 2, float: 5 }[encoding]));
}

function varintField(field: number, value: bigint): Buffer {
  return Buffer.concat([key(field, "varint"), varint(value)]);
}

function bytesField(field: number, bytes: Buffer): Buffer {
  return Buffer.concat([key(field, "bytes"), varint(BigInt(bytes.length)), bytes]);
}

function doubleField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(field, "double"), bytes]);
}

function floatField(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, "float"), bytes]);
}
