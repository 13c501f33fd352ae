import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  readSafetensors,
  SafetensorsFile,
  toFloat32,
  toFloat64,
  toInt32,
  writeSafetensors,
  type SafetensorsSource,
  type SafetensorsTensor,
} from "../../lib/checkpoint/safetensors.js";
import { CheckpointError, DeviceError } from "../../lib/errors.js";
import { testRandom } from "../data/test-random.js";
import { mutate } from "../support/mutate.js";

let folder: string;
beforeAll(async () => void (folder = await mkdtemp(join(tmpdir(), "safetensors-"))));
afterAll(() => rm(folder, { recursive: true }));

const pathOf = (name: string): string => join(folder, `${name}.safetensors`);

/** A file made by hand: header text, padding as given, then `data`. */
function fileOf(header: string | Uint8Array, data: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.from(header as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, data]);
}

async function openError(content: Uint8Array): Promise<CheckpointError> {
  const path = pathOf("malformed");
  await writeFile(path, content);
  const outcome = await readSafetensors(path).catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(CheckpointError);
  const error = outcome as CheckpointError;
  expect(error.path).toBe(path);
  expect(error.fix).not.toBe("");
  expect(error.message.length).toBeLessThan(1000);
  return error;
}

const sample = new Map<string, SafetensorsSource>([
  ["f32", { dtype: "F32", shape: [2, 3], data: Float32Array.of(1, -2, 0.5, NaN, Infinity, -0) }],
  ["f64", { dtype: "F64", shape: [], data: Float64Array.of(Math.PI) }],
  ["f16", { dtype: "F16", shape: [5], data: Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7c00, 0x7bff) }],
  ["bf16", { dtype: "BF16", shape: [2], data: Uint16Array.of(0x3f80, 0xc049) }],
  ["i64", { dtype: "I64", shape: [3], data: BigInt64Array.of(-1n, 2n, 2n ** 40n) }],
  ["i32", { dtype: "I32", shape: [1, 2], data: Int32Array.of(-7, 2 ** 31 - 1) }],
  ["u8", { dtype: "U8", shape: [3], data: Uint8Array.of(0, 127, 255) }],
  ["bool", { dtype: "BOOL", shape: [2], data: Uint8Array.of(1, 0) }],
  ["empty", { dtype: "F32", shape: [0, 4], data: new Float32Array(0) }],
  ["__proto__", { dtype: "U8", shape: [1], data: Uint8Array.of(9) }],
  ['weights "é" \n', { dtype: "I8", shape: [1], data: Int8Array.of(-1) }],
]);

describe("writing and reading", () => {
  test("every dtype, shape, name and metadata string comes back", async () => {
    const metadata = new Map([
      ["step", "12"],
      ["note", 'quotes " and\nlines'],
    ]);
    await writeSafetensors(pathOf("sample"), sample, metadata);
    const read = await readSafetensors(pathOf("sample"));
    expect(new Map([...read.metadata].sort())).toEqual(new Map([...metadata].sort()));
    expect([...read.tensors.keys()].sort()).toEqual([...sample.keys()].sort());
    for (const [name, { dtype, shape, data }] of sample) {
      expect(read.tensors.get(name)).toEqual({ dtype, shape, data });
    }
  });

  test("bytes do not depend on the order of insertion, and each tensor is aligned", async () => {
    await writeSafetensors(
      pathOf("forward"),
      sample,
      new Map([
        ["a", "1"],
        ["b", "2"],
      ]),
    );
    await writeSafetensors(
      pathOf("reverse"),
      new Map([...sample].reverse()),
      new Map([
        ["b", "2"],
        ["a", "1"],
      ]),
    );
    expect(await readFile(pathOf("reverse"))).toEqual(await readFile(pathOf("forward")));
    const file = await SafetensorsFile.open(pathOf("forward"));
    for (const { begin, end, shape } of file.tensors.values()) {
      const elements = shape.reduce((product, size) => product * size, 1);
      if (elements > 0) expect(begin % ((end - begin) / elements)).toBe(0);
    }
    await file.close();
  });

  test("a file is laid out as the format says", async () => {
    const tensors = new Map<string, SafetensorsSource>([
      ["b", { dtype: "U8", shape: [2], data: Uint8Array.of(5, 6) }],
      ["a", { dtype: "I32", shape: [1], data: Int32Array.of(258) }],
    ]);
    await writeSafetensors(pathOf("layout"), tensors, new Map([["k", "v"]]));
    const header =
      '{"__metadata__":{"k":"v"},"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},' +
      '"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8, " ");
    expect(await readFile(pathOf("layout"))).toEqual(fileOf(padded, Uint8Array.of(2, 1, 0, 0, 5, 6)));
  });

  test("data may be fetched while writing, and views are written as seen", async () => {
    const arena = Float32Array.of(0, 1, 2, 3);
    const data = async (): Promise<Float32Array> => arena.subarray(1, 3);
    await writeSafetensors(pathOf("lazy"), new Map([["w", { dtype: "F32", shape: [2], data }]]));
    expect((await readSafetensors(pathOf("lazy"))).tensors.get("w")?.data).toEqual(Float32Array.of(1, 2));
  });

  test("an empty file of tensors is valid", async () => {
    await writeSafetensors(pathOf("none"), new Map());
    expect((await readSafetensors(pathOf("none"))).tensors.size).toBe(0);
    await writeFile(pathOf("minimal"), fileOf("{}"));
    expect((await readSafetensors(pathOf("minimal"))).tensors.size).toBe(0);
  });

  test("a failed write leaves the old file and no temporary one", async () => {
    const path = pathOf("kept");
    await writeSafetensors(path, new Map([["a", { dtype: "U8", shape: [1], data: Uint8Array.of(1) }]]));
    const before = await readFile(path);
    const lost = new DeviceError("device lost", "restart");
    const data = (): Promise<Uint8Array> => Promise.reject(lost);
    const failing = writeSafetensors(path, new Map([["a", { dtype: "U8", shape: [1], data }]]));
    await expect(failing).rejects.toBe(lost);
    expect(await readFile(path)).toEqual(before);
    expect((await readdir(folder)).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test.each<[string, SafetensorsSource, string]>([
    ["a wrong length", { dtype: "F32", shape: [3], data: new Float32Array(2) }, "no F32 [3]"],
    ["a wrong array", { dtype: "F32", shape: [2], data: new Int32Array(2) }, "Int32Array of 2"],
    ["a negative size", { dtype: "F32", shape: [-1], data: new Float32Array(1) }, "no valid shape"],
    [
      "an overflowing shape",
      { dtype: "F32", shape: [2 ** 40, 2 ** 40], data: new Float32Array(1) },
      "no valid",
    ],
  ])("%s is refused", async (_, tensor, message) => {
    const failing = writeSafetensors(pathOf("refused"), new Map([["w", tensor]]));
    await expect(failing).rejects.toThrow(CheckpointError);
    const again = writeSafetensors(pathOf("refused"), new Map([["w", tensor]]));
    await expect(again).rejects.toThrow(`"w"`);
    await expect(failing).rejects.not.toThrow("cannot be written");
    await expect(again).rejects.toThrow(message);
  });

  test("a folder that does not exist is named", async () => {
    const path = join(folder, "missing", "m.safetensors");
    await expect(writeSafetensors(path, new Map())).rejects.toThrow(/missing.*cannot be written: no such/);
    await expect(SafetensorsFile.open(path)).rejects.toThrow(/missing.*cannot be read: no such/);
    await expect(SafetensorsFile.open(folder)).rejects.toThrow(CheckpointError);
  });

  test("a name that is not there lists what is", async () => {
    const file = await SafetensorsFile.open(pathOf("sample"));
    await expect(file.read("f33")).rejects.toThrow(/no tensor "f33"[\s\S]*f32/);
    await file.close();
  });

  test("a file that shrinks after it was opened is noticed", async () => {
    await writeSafetensors(
      pathOf("shrinks"),
      new Map([["a", { dtype: "U8", shape: [8], data: new Uint8Array(8) }]]),
    );
    const file = await SafetensorsFile.open(pathOf("shrinks"));
    await truncate(pathOf("shrinks"), (await readFile(pathOf("shrinks"))).length - 3);
    await expect(file.read("a")).rejects.toThrow("ends 3 bytes early");
    await file.close();
  });
});

describe("conversions", () => {
  const tensor = (name: string): SafetensorsTensor => sample.get(name) as SafetensorsTensor;

  test("half precision and bfloat16 decode exactly", () => {
    expect([...toFloat64(tensor("f16"))]).toEqual([1, -2, 2 ** -24, Infinity, 65504]);
    expect([...toFloat32(tensor("bf16"))]).toEqual([1, -3.140625]);
    const nan: SafetensorsTensor = { dtype: "F16", shape: [2], data: Uint16Array.of(0x7e00, 0x8000) };
    expect([...toFloat64(nan)]).toEqual([NaN, -0]);
  });

  test("integers convert to int32 or say which one does not fit", () => {
    expect(toInt32(tensor("i32"))).toEqual(Int32Array.of(-7, 2 ** 31 - 1));
    expect(toInt32(tensor("bool"))).toEqual(Int32Array.of(1, 0));
    expect(() => toInt32(tensor("i64"), "in.data")).toThrow(/in\.data: I64 value 1099511627776 at index 2/);
    expect(() => toInt32(tensor("f64"))).toThrow("F64 is no integer dtype");
  });
});

describe("checksums", () => {
  const path = (): string => pathOf("checked");
  const verify = async (): Promise<void> => {
    const file = await SafetensorsFile.open(path());
    try {
      await file.verify();
    } finally {
      await file.close();
    }
  };

  test("tell a whole file from one with a flipped bit, wherever it is", async () => {
    await writeSafetensors(path(), sample, new Map([["note", 'a "crc32":"00000000" inside']]), {
      checksum: true,
    });
    await verify();
    const original = await readFile(path());
    const header = original.subarray(8, 8 + Number(original.readBigUInt64LE(0))).toString();
    expect(header).toMatch(/^\{"__metadata__":\{"crc32":"[0-9a-f]{8}"/);
    let noticed = 0;
    for (let at = 0; at < original.length; at += 3) {
      const copy = Buffer.from(original);
      copy[at] = (copy[at] as number) ^ (1 << (at % 8));
      await writeFile(path(), copy);
      await expect(verify()).rejects.toThrow(CheckpointError);
      noticed++;
    }
    expect(noticed).toBe(Math.ceil(original.length / 3));
  });

  test("cover tensors that are written in pieces", async () => {
    const data = new Uint8Array(9 * 2 ** 20 + 5).fill(7);
    await writeSafetensors(
      path(),
      new Map([["large", { dtype: "U8", shape: [data.length], data }]]),
      new Map(),
      { checksum: true },
    );
    await verify();
    const copy = await readFile(path());
    copy[copy.length - 1] = 8;
    await writeFile(path(), copy);
    await expect(verify()).rejects.toThrow("differs from what was written");
  });

  test("are missing in files of other programs", async () => {
    await writeSafetensors(path(), sample);
    await expect(verify()).rejects.toThrow("has no checksum");
  });
});

describe("malformed files", () => {
  const entry = (fields: object): string =>
    JSON.stringify({ a: { dtype: "U8", shape: [2], data_offsets: [0, 2], ...fields } });
  const two = Uint8Array.of(1, 2);

  test.each<[string, Uint8Array, string, number]>([
    ["an empty file", Buffer.alloc(0), "ends 8 bytes early", 0],
    ["a file of 7 bytes", Buffer.alloc(7), "early", 7],
    ["a header past the end", fileOf("{}").subarray(0, 9), "header length", 0],
    ["a huge header length", Buffer.alloc(16, 255), "header length", 0],
    ["no JSON", fileOf("{]"), "JSON", 8],
    ["text before the object", fileOf(" {}"), "start with {", 8],
    ["text after the object", fileOf('{}{"a":1}'), "JSON", 8],
    ["an array", fileOf("[]"), "start with {", 8],
    ["bad UTF-8", fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), "UTF-8", 8],
    ["an unfinished string", fileOf('{"a'), "malformed string", 9],
    ["a duplicate tensor", fileOf('{"a":1,"\\u0061":2}'), "duplicate", 15],
    ["a duplicate field", fileOf('{"a":{"dtype":"U8","dtype":"U8"}}'), "duplicate", 27],
    ["a tensor that is no object", fileOf('{"a":7}'), "expected an object", 9],
    ["a missing field", fileOf('{"a":{"dtype":"U8","shape":[]}}'), "data_offsets", 9],
    ["an unknown field", fileOf(entry({ stride: 1 }), two), "stride", 9],
    ["an unknown dtype", fileOf(entry({ dtype: "F31" }), two), "F31", 9],
    ["an inherited dtype", fileOf(entry({ dtype: "toString" }), two), "toString", 9],
    ["a negative size", fileOf(entry({ shape: [-2] }), two), "shape", 9],
    ["a fraction", fileOf(entry({ shape: [0.5, 4] }), two), "shape", 9],
    [
      "a size beyond 2^53",
      fileOf('{"a":{"dtype":"U8","shape":[9007199254740993],"data_offsets":[0,2]}}', two),
      "shape",
      9,
    ],
    ["an overflow", fileOf(entry({ shape: [4294967296, 4294967296] }), two), "overflows", 9],
    ["an overflow hidden by a zero", fileOf(entry({ shape: [2 ** 50, 2 ** 50, 0] }), two), "overflows", 9],
    ["three offsets", fileOf(entry({ data_offsets: [0, 2, 2] }), two), "data_offsets", 9],
    ["a wrong size", fileOf(entry({ data_offsets: [0, 1] }), two.subarray(1)), "takes 2 bytes", 9],
    ["offsets backwards", fileOf(entry({ data_offsets: [2, 0] }), two), "takes 2 bytes", 9],
    ["a hole at the start", fileOf(entry({ data_offsets: [1, 3] }), Buffer.alloc(3)), "hole", 9],
    ["data missing", fileOf(entry({}), two.subarray(1)), "describes 2 bytes of data, the file holds 1", 62],
    ["data left over", fileOf(entry({}), Buffer.alloc(3)), "describes 2 bytes of data, the file holds 3", 63],
    ["metadata that is no object", fileOf('{"__metadata__":[]}'), "metadata", 9],
    ["metadata that is no string", fileOf('{"__metadata__":{"a":1}}'), "no string", 9],
    ["a BOOL of 2", fileOf(entry({ dtype: "BOOL" }), two), "2 is no BOOL", 64],
    ["deep nesting", fileOf("{" + '"a":[['.padEnd(1_000_000, "[")), "nested", 15],
    ["a long list", fileOf(`{"a":[${"0,".repeat(100_000)}0]}`), "longer than 64", 141],
    ["a hostile name", fileOf(`{"${"x".repeat(100_000)}":7}`), "xxx…", 9],
  ])("%s", async (_, content, message, offset) => {
    const error = await openError(content);
    expect(error.message).toContain(message);
    expect(error.offset).toBe(offset);
  });

  test("tensors that overlap or leave a hole are named", async () => {
    const header = (begin: number): string =>
      JSON.stringify({
        a: { dtype: "U8", shape: [4], data_offsets: [0, 4] },
        b: { dtype: "U8", shape: [4], data_offsets: [begin, begin + 4] },
      });
    expect((await openError(fileOf(header(2), Buffer.alloc(6)))).message).toContain('"b": overlaps');
    expect((await openError(fileOf(header(5), Buffer.alloc(9)))).message).toContain('"b": leaves a hole');
    await writeFile(pathOf("touching"), fileOf(header(4), Buffer.alloc(8)));
    expect((await readSafetensors(pathOf("touching"))).tensors.size).toBe(2);
  });

  test("a byte offset counts bytes, not characters", async () => {
    const header = '{"é":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":7}';
    expect((await openError(fileOf(header))).offset).toBe(8 + Buffer.from(header).indexOf('"b"'));
  });

  // A mutated header either fails, or describes a file whose every tensor is still within bounds and consistent.
  test("2,000 mutated files are refused or read consistently", async () => {
    const random = testRandom(7);
    await writeSafetensors(pathOf("original"), sample, new Map([["step", "12"]]));
    const original = await readFile(pathOf("original"));
    const headerEnd = 8 + Number(original.readBigUInt64LE(0));
    const path = pathOf("mutated");
    let [refused, read] = [0, 0];
    while (refused + read < 2000) {
      const mutant = mutate(original, headerEnd, random);
      if (mutant.equals(original)) continue;
      await writeFile(path, mutant);
      const outcome = await readSafetensors(path).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(CheckpointError);
        refused++;
        continue;
      }
      read++;
      const { tensors } = outcome as Awaited<ReturnType<typeof readSafetensors>>;
      let bytes = 0;
      for (const { shape, data } of tensors.values()) {
        expect(data.length).toBe(shape.reduce((product, size) => product * size, 1));
        bytes += data.byteLength;
      }
      expect(8 + Number(mutant.readBigUInt64LE(0)) + bytes).toBe(mutant.length);
    }
    console.log(`${refused + read} mutated safetensors files: ${refused} refused, ${read} read consistently`);
    expect(refused).toBeGreaterThan(1400);
  });
});
