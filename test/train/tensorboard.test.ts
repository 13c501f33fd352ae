import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import type { Metrics } from "../../lib/train/metrics.js";
import { crc32c, TensorBoardFile } from "../../lib/train/tensorboard.js";

/** CRC-32C bit by bit from its definition: the remainder of a division of polynomials over GF(2). */
function crcByDivision(bytes: Uint8Array): number {
  const message = [...bytes].flatMap((byte) => Array.from({ length: 8 }, (_, bit) => (byte >> bit) & 1));
  const bits = [...message, ...Array.from({ length: 32 }, () => 0)];
  for (let i = 0; i < 32; i += 1) bits[i]! ^= 1;
  const polynomial = 0x1edc6f41;
  for (let i = 0; i < message.length; i += 1) {
    if (bits[i] === 0) continue;
    for (let bit = 0; bit < 32; bit += 1) bits[i + 1 + bit]! ^= (polynomial >>> (31 - bit)) & 1;
  }
  const remainder = bits.slice(-32).map((bit) => bit ^ 1);
  return remainder.reduceRight((value, bit) => value * 2 + bit, 0);
}

test.each([
  // The check value of the CRC catalogue, and the examples of RFC 3720, appendix B.4.
  ["123456789", Buffer.from("123456789"), 0xe3069283],
  ["32 bytes of zeros", Buffer.alloc(32), 0x8a9136aa],
  ["32 bytes of ones", Buffer.alloc(32, 0xff), 0x62a8ab43],
  ["0 to 31", Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
  ["31 to 0", Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
  ["nothing", Buffer.alloc(0), 0],
])("CRC-32C of %s", (_, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected);
  if (bytes.length >= 4) expect(crcByDivision(bytes)).toBe(expected);
});

interface Event {
  wallTime: number;
  step: number;
  fileVersion: string | undefined;
  sessionStatus: number | undefined;
  scalars: Record<string, number>;
}

/** Fields of a protocol buffer by number; nested ones as bytes. */
function fieldsOf(data: Buffer): [field: number, value: number | Buffer][] {
  const fields: [number, number | Buffer][] = [];
  let at = 0;
  const varint = (): number => {
    let [value, factor, byte] = [0, 1, 0x80];
    for (; byte >= 0x80; factor *= 128) value += ((byte = data[at++]!) & 0x7f) * factor;
    return value;
  };
  const bytes = (count: number): Buffer => data.subarray(at, (at += count));
  while (at < data.length) {
    const [field, encoding] = ((key: number) => [key >> 3, key & 7] as const)(varint());
    if (encoding === 0) fields.push([field, varint()]);
    else if (encoding === 1) fields.push([field, bytes(8).readDoubleLE()]);
    else if (encoding === 5) fields.push([field, bytes(4).readFloatLE()]);
    else if (encoding === 2) fields.push([field, bytes(varint())]);
    else throw new Error(`encoding ${encoding}`);
  }
  return fields;
}

function eventOf(data: Buffer): Event {
  const event: Event = {
    wallTime: 0,
    step: 0,
    fileVersion: undefined,
    sessionStatus: undefined,
    scalars: {},
  };
  for (const [field, value] of fieldsOf(data)) {
    if (field === 1) event.wallTime = value as number;
    else if (field === 2) event.step = value as number;
    else if (field === 3) event.fileVersion = (value as Buffer).toString();
    else if (field === 5) {
      for (const [, entry] of fieldsOf(value as Buffer)) {
        const { 1: tag, 2: scalar } = Object.fromEntries(fieldsOf(entry as Buffer));
        event.scalars[String(tag)] = scalar as number;
      }
    } else if (field === 7) event.sessionStatus = fieldsOf(value as Buffer)[0]?.[1] as number;
    else throw new Error(`field ${field}`);
  }
  return event;
}

/** Takes a file apart, frame by frame, checking every checksum. */
function eventsIn(file: Buffer): Event[] {
  const checked = (bytes: Buffer, stored: number): Buffer => {
    const rotated = BigInt(stored) - 0xa282ead8n;
    const unmasked = BigInt.asUintN(32, rotated);
    expect(Number(BigInt.asUintN(32, (unmasked << 15n) | (unmasked >> 17n)))).toBe(crcByDivision(bytes));
    return bytes;
  };
  const events: Event[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(checked(file.subarray(at, at + 8), file.readUInt32LE(at + 8)).readBigUInt64LE());
    const end = at + 12 + length;
    events.push(eventOf(checked(file.subarray(at + 12, end), file.readUInt32LE(end))));
    at = end + 4;
  }
  return events;
}

const measured = { nats: 1.5, bpc: 2, perplexity: 4, topK: 4, routerEntropy: [1], expertLoad: [[0.5, 0.5]] };

describe("an event file", () => {
  test("holds its version, then the scalars of each record", async () => {
    const folder = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "tensorboard");
    const writer = await TensorBoardFile.create(folder);
    const records: Metrics[] = [
      { type: "start", step: 300, time: 1e9 },
      {
        ...{ type: "training", step: 301, time: 1e9 + 0.25, loss: 2.5, bpc: 3.5, auxLoss: 0, gradNorm: 1 },
        ...{ lr: 1e-3, topK: 2, tokens: 4096, tokensPerSecond: 1e4, routerEntropy: [1.5, 2.5] },
      },
      { type: "test", step: 2 ** 33, time: 1e9 + 1, ...measured },
    ];
    for (const record of records) await writer.write(record);
    await writer.close();

    const [name] = await readdir(folder);
    expect(name).toMatch(/^events\.out\.tfevents\.\d{10}\./);
    expect(name).toContain(hostname());
    const [version, start, training, tested, ...rest] = eventsIn(await readFile(writer.path));
    expect(rest).toEqual([]);
    expect(version).toMatchObject({ fileVersion: "brain.Event:2", step: 0 });
    expect(start).toMatchObject({ sessionStatus: 1, step: 301, scalars: {} });
    expect(training).toMatchObject({ step: 301, wallTime: 1e9 + 0.25 });
    expect(training!.scalars).toEqual({
      ...{ "training/loss": 2.5, "training/bpc": 3.5, "training/auxLoss": 0, "training/gradNorm": 1 },
      ...{ "training/lr": Math.fround(1e-3), "training/topK": 2, "training/tokens": 4096 },
      ...{ "training/tokensPerSecond": 1e4 },
      ...{ "training/routerEntropy/0": 1.5, "training/routerEntropy/1": 2.5 },
    });
    expect(tested).toMatchObject({ step: 2 ** 33, scalars: { "test/k=4/bpc": 2, "test/k=4/nats": 1.5 } });
    expect(Object.keys(tested!.scalars)).not.toContain("test/k=4/expertLoad/0");
  });

  test("is a new one for each start", async () => {
    const folder = await mkdtemp(join(tmpdir(), "hyperrouter-"));
    const first = await TensorBoardFile.create(folder);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const second = await TensorBoardFile.create(folder);
    await second.scalars(1, new Map([["a", -1.5]]));
    await Promise.all([first.close(), second.close()]);
    expect(await readdir(folder)).toHaveLength(2);
    expect(eventsIn(await readFile(second.path))[1]).toMatchObject({ scalars: { a: -1.5 } });
  });
});
