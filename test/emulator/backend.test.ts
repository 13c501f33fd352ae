import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { OutOfMemoryError } from "../../lib/errors.js";
import { native } from "../../lib/native.js";
import { runChild } from "../support/child.js";
import { emulated } from "../support/emulator.js";

const [device] = emulated();

/** A tensor of the device with these numbers. */
function tensor(...numbers: number[]): number {
  const handle = native().createTensor(device.id, "f32", [numbers.length]);
  native().upload(handle, new Float32Array(numbers));
  return handle;
}
function indices(...numbers: number[]): number {
  const handle = native().createTensor(device.id, "i32", [numbers.length]);
  native().upload(handle, new Int32Array(numbers));
  return handle;
}
const numbers = (handle: number): number[] => [...new Float32Array(native().downloadSync(handle))];

/** out[i] = 10 or 20 by ids[i], 0 or 1; anything else fails on the device. */
function embed(ids: number[], out: number): void {
  const table = native().viewTensor(tensor(10, 20), 0, [2, 1]);
  native().ops.embed(indices(...ids), table, native().viewTensor(out, 0, [ids.length, 1]), 0, 2, 1);
}

describe("the CUDA backend", () => {
  test("says what it runs on", () => {
    expect(device.description).toBe("emulator, compute capability 8.0");
    expect(openDevice("cuda", { dtype: "tf32" }).description).toMatch(/, tf32 products$/);
    expect(device.float).toBe("f32");
  });

  test("hands out poisoned memory and takes it back", () => {
    const before = device.memoryStats().liveBytes;
    const handle = native().createTensor(device.id, "f32", [1000]);
    expect(numbers(handle).every(Number.isNaN)).toBe(true);
    expect(device.memoryStats().liveBytes - before).toBe(4000);
    native().releaseTensor(handle);
    expect(device.memoryStats().liveBytes).toBe(before);
  });

  test("refuses what passes its limit", () => {
    const small = openDevice("cuda:0", { memoryLimitBytes: 1 << 20 });
    expect(() => native().createTensor(small.id, "f32", [1 << 20])).toThrow(OutOfMemoryError);
    expect(native().createTensor(small.id, "f32", [1000])).toBeGreaterThan(0);
  });

  test("copies within the device", () => {
    const [from, to] = [tensor(1, 2, 3, 4, 5), tensor(0, 0, 0, 0, 0)];
    native().copyTensor(from, to);
    expect(numbers(to)).toEqual([1, 2, 3, 4, 5]);
  });

  test("downloads without blocking", async () => {
    const handle = tensor(1, 2, 3);
    native().ops.axpby(handle, handle, 2, 0);
    expect([...new Float32Array(await native().download(handle))]).toEqual([2, 4, 6]);
  });

  test("knows only the GPUs that are there", () => {
    expect(() => openDevice("cuda:7")).toThrow(/there is no GPU 7, only 0 to 2/);
  });
});

describe("what follows a failed op", () => {
  const bad = "embed: ids[0] is 7, expected 0 to 1";

  test("is skipped, and every read before the error is known is refused", async () => {
    const [good, x] = [tensor(1), tensor(1)];
    embed([7], tensor(0));
    native().ops.axpby(good, x, 5, 0);
    native().copyTensor(tensor(9), good);
    const reads = [native().download(x), native().download(good)];
    expect(await Promise.allSettled(reads)).toEqual([
      { status: "rejected", reason: expect.objectContaining({ message: expect.stringContaining(bad) }) },
      { status: "rejected", reason: expect.objectContaining({ message: expect.stringContaining(bad) }) },
    ]);
    expect([numbers(x), numbers(good)]).toEqual([[1], [1]]);
  });

  test("runs again once the error is known, and a new failure is reported", async () => {
    embed([7], tensor(0));
    const first = native().download(tensor(1));
    const second = native().download(tensor(1));
    await expect(first).rejects.toThrow(bad);
    // The second refusal belongs to the failure that is known; what is queued now is not concerned.
    embed([-3], tensor(0));
    const third = native().download(tensor(1));
    await expect(second).rejects.toThrow(bad);
    await expect(third).rejects.toThrow("ids[0] is -3");
    const out = tensor(0);
    embed([1], out);
    expect(numbers(out)).toEqual([20]);
  });

  test("does not concern uploads", () => {
    embed([7], tensor(0));
    const kept = tensor(3);
    expect(() => {
      device.synchronize();
    }).toThrow(bad);
    expect(numbers(kept)).toEqual([3]);
  });

  test("concerns the first bad index", () => {
    embed([1, 0, 9, 1, -1], tensor(0, 0, 0, 0, 0));
    expect(() => {
      device.synchronize();
    }).toThrow("ids[2] is 9");
  });
});

test.each([
  ["0", /no NVIDIA driver here: libcuda\.so\.1 was not found/],
  ["12040", /CUDA driver too old: it supports CUDA 12\.4, this build needs 13\.0/],
])("a driver of version %s is refused with cause and fix", async (driver, reason) => {
  const env = { HYPERROUTER_EMULATOR_DRIVER: driver };
  const { stdout, code } = await runChild(new URL("children/open-cuda.ts", import.meta.url), { env });
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(reason) });
  expect(stdout).toMatch(/Install the driver|Update the NVIDIA driver/);
});
