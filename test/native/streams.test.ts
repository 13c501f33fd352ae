import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "@jest/globals";
import { type Device, openDevice } from "../../lib/device.js";
import { OutOfMemoryError, ValueError } from "../../lib/errors.js";
import { add, axpby } from "../../lib/ops/elementwise.js";
import { embed } from "../../lib/ops/embed.js";
import { matmul } from "../../lib/ops/gemm.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, indices, tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("cpu", { threads: 2 });

/** Queues an op that fails once it runs. */
function queueBadOp(on: Device): FloatTensor {
  return embed(indices([0, 9], [2], on), tensor([1, 2, 3, 4], [2, 2], on));
}

const cause = /^embed: ids\[1\] is 9, expected 0 to 1/;

describe("an op that fails on the stream", () => {
  test("is reported by the next read, once, and the stream goes on", async () => {
    const bad = queueBadOp(device);
    await expect(bad.data()).rejects.toThrow(ValueError);
    const sum = add(tensor([1, 2], [2], device), tensor([3, 4], [2], device));
    expect(Array.from(await sum.data())).toEqual([4, 6]);
  });

  test("is reported by settled(), synchronize(), item() and dataSync() alike", async () => {
    queueBadOp(device);
    await expect(device.settled()).rejects.toThrow(cause);
    queueBadOp(device);
    expect(() => {
      device.synchronize();
    }).toThrow(cause);
    const bad = queueBadOp(device);
    expect(() => bad.dataSync()).toThrow(cause);
    queueBadOp(device);
    await expect(zeros([1], device).item()).rejects.toThrow(cause);
    await device.settled();
  });

  test("only the first of several is reported", async () => {
    queueBadOp(device);
    embed(indices([7], [1], device), zeros([2, 2], device));
    await expect(device.settled()).rejects.toThrow(cause);
    await device.settled();
  });

  test("rejects every read queued behind it, its own and others'", async () => {
    const innocent = tensor([1, 2], [2], device);
    const bad = queueBadOp(device);
    const outcomes = await Promise.allSettled([innocent.data(), bad.data(), innocent.data()]);
    expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(Array.from(await innocent.data())).toEqual([1, 2]);
  });

  test("keeps what is queued behind it from changing anything, until it was reported", async () => {
    const weights = tensor([1, 2, 3, 4], [4], device);
    const update = (): void => {
      axpby(1, add(weights, weights), 1, weights);
    };
    queueBadOp(device);
    update();
    await expect(device.settled()).rejects.toThrow(cause);
    expect(Array.from(await weights.data())).toEqual([1, 2, 3, 4]);
    update();
    expect(Array.from(await weights.data())).toEqual([3, 6, 9, 12]);
  });

  test("does not lose what is uploaded behind it", async () => {
    queueBadOp(device);
    const uploaded = tensor([5, 6], [2], device);
    await expect(device.settled()).rejects.toThrow(cause);
    expect(Array.from(await uploaded.data())).toEqual([5, 6]);
  });

  test("does not reach another device", async () => {
    const other = openDevice("cpu:plain", { threads: 1 });
    queueBadOp(device);
    await other.settled();
    await expect(device.settled()).rejects.toThrow(cause);
  });
});

describe("memory", () => {
  const limited = openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 20 });

  test("a tensor beyond the limit is refused with what is in use, and a smaller one is not", () => {
    scope(() => {
      const most = zeros([200_000], limited);
      const tooMuch = (): unknown => zeros([100_000], limited);
      expect(tooMuch).toThrow(OutOfMemoryError);
      expect(tooMuch).toThrow(
        /a tensor needs 390\.6 KiB, but \d+\.\d KiB of 1\.0 MiB are free\n {2}fix: use a smaller batch/,
      );
      expect(zeros([1000], limited).dataSync()[0]).toBe(0);
      most.dispose();
      expect(zeros([150_000], limited).dataSync()[149_999]).toBe(0);
    });
  });

  test("blocks kept for reuse are given up before an allocation fails", () => {
    for (let size = 10_000; size < 200_000; size += 10_000) zeros([size], limited).dispose();
    expect(zeros([230_000], limited).dataSync()[0]).toBe(0);
  });

  test("absurd sizes are refused", () => {
    expect(() => zeros([2 ** 40], limited)).toThrow(OutOfMemoryError);
    expect(() => zeros([2 ** 30, 2 ** 30], limited)).toThrow(/the tensor has more than 2\^48 elements/);
  });
});

describe("the queue", () => {
  test("takes 10,000 ops without a single await, in bounded memory", async () => {
    const start = device.memoryStats().liveBytes;
    const x = tensor([1], [1], device);
    const one = tensor([1], [1], device);
    for (let i = 0; i < 10_000; i++) {
      scope(() => {
        add(x, one);
      });
    }
    expect(device.memoryStats().liveBytes - start).toBeLessThan(1024);
    let total = zeros([1], device);
    for (let i = 0; i < 10_000; i++) {
      const next = add(total, one);
      total.dispose();
      total = next;
    }
    expect(await total.item()).toBe(10_000);
    for (const t of [x, one, total]) t.dispose();
  });

  test("the event loop runs on while a long queue is worked off", async () => {
    const size = 384;
    const x = zeros([size, size], device);
    const result = scope(() => {
      let y: FloatTensor = x;
      for (let i = 0; i < 60; i++) y = matmul(y, x);
      return y;
    });
    let pending = true;
    const done = result.data().then(() => (pending = false));
    const delays: number[] = [];
    while (pending) {
      const before = performance.now();
      await sleep(1);
      delays.push(performance.now() - before);
    }
    await done;
    expect(delays.length).toBeGreaterThan(5);
    delays.sort((a, b) => a - b);
    expect(delays[Math.floor(delays.length / 2)]).toBeLessThan(30);
    x.dispose();
    result.dispose();
  });
});
