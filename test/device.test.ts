import { describe, expect, test } from "@jest/globals";
import { deviceNames, openDevice } from "../lib/device.js";
import { DeviceError, ValueError } from "../lib/errors.js";
import { add } from "../lib/ops/elementwise.js";
import { embed } from "../lib/ops/embed.js";
import { randomNormal } from "../lib/ops/random.js";
import { matmul } from "../lib/ops/gemm.js";
import { scope } from "../lib/scope.js";
import { indices, zeros } from "../lib/tensor.js";
import { withEnv } from "./support/with-env.js";

describe("openDevice", () => {
  test("opens every device that this machine has", () => {
    const names = deviceNames();
    expect(names).toEqual(expect.arrayContaining(["cpu", "cpu:plain", "reference"]));
    for (const name of names) {
      const device = openDevice(name, { threads: 1 });
      expect(device).toMatchObject({ name, float: name === "reference" ? "f64" : "f32", threads: 1 });
      expect(String(device)).toBe(name);
    }
  });

  test("gives the device that was opened before", () => {
    expect(openDevice("cpu", { threads: 1 })).toBe(openDevice("cpu", { threads: 1 }));
    expect(openDevice("cpu", { threads: 1 })).not.toBe(openDevice("cpu", { threads: 2 }));
  });

  test("describes itself for people", () => {
    expect(openDevice("cpu:plain", { threads: 2 }).description).toBe("plain, 2 threads");
    expect(openDevice("reference").description).toBe("reference, 1 thread");
  });

  test.each(["cuda", "cuda:1"])("refuses %p in a build without CUDA", (name) => {
    expect(() => openDevice(name)).toThrow(DeviceError);
    expect(() => openDevice(name)).toThrow(
      /^openDevice: this build has no device "cuda"\n {2}fix: .*deviceNames\(\)/,
    );
  });

  test("refuses tf32 on a CPU", () => {
    expect(() => openDevice("cpu", { dtype: "tf32" })).toThrow(DeviceError);
  });

  test("gives a device of its own to each dtype", () => {
    const device = openDevice("cpu", { dtype: "bf16" });
    expect(device).toBe(openDevice("cpu", { dtype: "bf16" }));
    expect(device.id).not.toBe(openDevice("cpu").id);
    expect(device.description).toMatch(/bf16 products/);
  });

  test.each(["", "gpu", "cpu:", "cpu:sse", "cpu:reference", "cpu:plain:x", "plain", "CPU"])(
    "refuses %p with the names it takes",
    (name) => {
      expect(() => openDevice(name)).toThrow(DeviceError);
      expect(() => openDevice(name)).toThrow(
        /^there is no device ".*" here\n {2}fix: use one of cpu, .*cpu:plain, reference$/,
      );
    },
  );

  test.each([
    { threads: -1 },
    { threads: 1.5 },
    { threads: NaN },
    { memoryLimitBytes: -1 },
    { threads: "2" as never },
  ])("refuses %p", (options) => {
    expect(() => openDevice("cpu", options)).toThrow(ValueError);
  });
});

describe("environment variables", () => {
  test("HYPERROUTER_CPU_ISA forces the instruction set of device cpu", () => {
    withEnv({ HYPERROUTER_CPU_ISA: "plain" }, () => {
      expect(openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 24 }).description).toMatch(/^plain/);
    });
    withEnv({ HYPERROUTER_CPU_ISA: "reference" }, () => {
      expect(openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 25 }).float).toBe("f64");
    });
  });

  test("a wrong one is named in the error", () => {
    withEnv({ HYPERROUTER_CPU_ISA: "sse9" }, () => {
      expect(() => openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 23 })).toThrow(
        'there is no device "cpu:sse9" (from HYPERROUTER_CPU_ISA) here',
      );
    });
  });

  test("HYPERROUTER_THREADS sets the default number of threads", () => {
    withEnv({ HYPERROUTER_THREADS: "3" }, () => {
      expect(openDevice("cpu:plain", { memoryLimitBytes: 1 << 22 }).threads).toBe(3);
    });
    withEnv({ HYPERROUTER_THREADS: "many" }, () => {
      expect(() => openDevice("cpu:plain", { memoryLimitBytes: 1 << 21 })).toThrow(ValueError);
    });
  });
});

describe("setThreads", () => {
  test("changes nothing but the speed", () => {
    const device = openDevice("cpu", { memoryLimitBytes: 1 << 28 });
    const results = [1, 2, 3, 1].map((threads) => {
      device.setThreads(threads);
      expect(device.threads).toBe(threads);
      return scope(() => {
        const x = randomNormal([150, 150], 0, 1, { seed: 1, call: 1 }, device);
        return matmul(x, x).dataSync();
      });
    });
    for (const result of results)
      expect(Buffer.compare(Buffer.from(result.buffer), Buffer.from(results[0]!.buffer))).toBe(0);
    expect(() => {
      device.setThreads(-1);
    }).toThrow(ValueError);
  });
});

describe("memoryStats", () => {
  const device = openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 26 });

  test("counts live, peak and pooled bytes", () => {
    device.resetPeak();
    const start = device.memoryStats();
    const a = zeros([1000], device);
    const b = zeros([1000], device);
    const both = device.memoryStats();
    const perTensor = (both.liveBytes - start.liveBytes) / 2;
    expect(perTensor).toBeGreaterThanOrEqual(4000);
    expect(perTensor).toBeLessThan(4600);
    expect(both.tensors - start.tensors).toBe(2);
    a.dispose();
    b.dispose();
    expect(device.memoryStats()).toMatchObject({
      liveBytes: start.liveBytes,
      peakBytes: both.liveBytes,
      tensors: start.tensors,
    });
    expect(device.memoryStats().pooledBytes).toBeGreaterThanOrEqual(2 * perTensor);
    device.resetPeak();
    expect(device.memoryStats().peakBytes).toBe(start.liveBytes);
  });

  test("memory is used again", () => {
    zeros([5000], device).dispose();
    const { pooledBytes } = device.memoryStats();
    const t = zeros([5000], device);
    expect(device.memoryStats().pooledBytes).toBeLessThan(pooledBytes);
    t.dispose();
  });
});

describe("timestamp", () => {
  const device = openDevice("cpu", { threads: 1, memoryLimitBytes: 1 << 29 });
  const square = (size: number) => (): void => {
    const x = zeros([size, size], device);
    matmul(x, x);
  };

  test("is the time of the device, not of the host that asks", async () => {
    const start = performance.now();
    const stamps = scope(() => {
      const before = device.timestamp();
      Array.from({ length: 4 }).forEach(square(512));
      return [before, device.timestamp(), device.timestamp()];
    });
    const queued = (performance.now() - start) / 1000;
    const [before, after, last] = (await Promise.all(stamps)) as [number, number, number];
    const elapsed = (performance.now() - start) / 1000;
    // 1.07 GFLOP cannot take less than 1 ms on one core.
    expect(after - before).toBeGreaterThan(0.001);
    expect(after - before).toBeLessThan(elapsed);
    expect(last).toBeGreaterThanOrEqual(after);
    expect(last - after).toBeLessThan(elapsed - queued);
  });

  test("is refused after an op that failed, like settled()", async () => {
    const ids = indices([7], [1], device);
    scope(() => embed(ids, zeros([2, 1], device)));
    await expect(device.timestamp()).rejects.toThrow("embed: ids[0] is 7, expected 0 to 1");
    expect(await device.timestamp()).toEqual(expect.any(Number));
    ids.dispose();
  });
});

test("tensors of two devices do not mix", () => {
  scope(() => {
    const a = zeros([2], openDevice("cpu", { threads: 1 }));
    const b = zeros([2], openDevice("cpu:plain", { threads: 1 }));
    expect(() => add(a, b)).toThrow(DeviceError);
    expect(() => add(a, b)).toThrow(
      /"b" is on device cpu \(plain, 1 thread\), but the tensors before it are on cpu/,
    );
  });
});
