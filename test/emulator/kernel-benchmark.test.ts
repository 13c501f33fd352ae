import { beforeAll, describe, expect, jest, test } from "@jest/globals";
import { kernelFamilies, type KernelFamily, quickSizes } from "../../bench/cuda/kernel-cases.js";
import { type KernelReport, measureKernels, quickEffort } from "../../bench/cuda/measure-kernels.js";
import type { OpCase } from "../../bench/op-cases.js";
import { Device, openDevice } from "../../lib/device.js";

// Times on the emulator mean nothing; that there are some, of everything, does.
describe("the kernel benchmark", () => {
  let report: KernelReport;
  let leftBytes: number;

  beforeAll(async () => {
    const before = openDevice("cuda").memoryStats().liveBytes;
    report = await measureKernels(kernelFamilies(quickSizes), quickEffort);
    leftBytes = openDevice("cuda").memoryStats().liveBytes - before;
  });

  test.each([
    ["grouped_gemm gather+bias+relu k=2", ["f32", "bf16", "tf32"]],
    ["grouped_gemm_sum bias k=4", ["f32", "bf16", "tf32"]],
    ["grouped_gemm_sum transposed k=4", ["f32", "bf16", "tf32"]],
    ["grouped_gemm_dgrad k=2", ["f32", "bf16", "tf32"]],
    ["grouped_gemm_wgrad k=2", ["f32", "bf16", "tf32"]],
    ["rel_attention", ["f32", "bf16", "tf32"]],
    ["rel_attention_backward", ["f32", "bf16", "tf32"]],
    ["router_topk + dispatch k=2", ["f32"]],
    ["combine k=2", ["f32"]],
    ["hyper_router_generate, 2 layers", ["f32"]],
    ["layer_norm with residual", ["f32"]],
    ["layer_norm of routed rows k=2", ["f32"]],
    ["cross_entropy_backward", ["f32"]],
    ["adam", ["f32"]],
  ])("has %s", (name, dtypes) => {
    const rows = report.rows.filter((row) => row.name === name && row.size === "paper");
    expect(rows.map(({ dtype }) => dtype)).toEqual(dtypes);
    for (const { seconds, samples, pipelineSeconds, floorSeconds } of rows) {
      expect(samples.device).toHaveLength(quickEffort.rounds);
      expect(seconds.p10).toBeGreaterThan(0);
      expect(seconds.median).toBeGreaterThanOrEqual(seconds.p10);
      expect(seconds.p90).toBeGreaterThanOrEqual(seconds.median);
      expect(pipelineSeconds).toBeGreaterThan(0);
      expect(floorSeconds).toBeGreaterThan(0);
    }
  });

  test("measures the first kernel again, leaves out none and keeps no tensor", () => {
    expect(report.drift).toMatchObject({ name: "copy", last: expect.any(Number) });
    expect([report.failures, report.missing, report.running]).toEqual([[], [], null]);
    expect(leftBytes).toBe(0);
  });

  const family = (name: string, build: () => OpCase[]): KernelFamily => ({
    ...{ name, size: "b4", hasProducts: false, build },
  });
  const [copy, gemm] = kernelFamilies(quickSizes);

  test("goes on without kernels that fail at once or later, and keeps the samples before", async () => {
    const broken = family("broken", () => {
      throw new Error("no memory");
    });
    let calls = 0;
    const queue = () => {
      // It has warmed up by then.
      if ((calls += 1) > 100) throw new Error("no more");
    };
    const worn = family("worn", () => [{ name: "worn kernel", work: { bytes: 1e9 }, queue }]);
    const { rows, failures } = await measureKernels([copy!, broken, worn], { ...quickEffort, rounds: 101 });
    const samples = rows.map(({ name, samples }) => [name, samples.device.length]);
    expect(samples).toEqual([
      ["copy", 101],
      ["worn kernel", expect.any(Number)],
    ]);
    expect(samples[1]![1]).toBeLessThan(101);
    expect(failures.map(({ family, reason }) => [family, reason])).toEqual([
      ["broken", "Error: no memory"],
      ["worn", "worn kernel: Error: no more"],
    ]);
  });

  test("tells what is known so far, and stops when the time is up", async () => {
    const told: string[] = [];
    const options = {
      seconds: 0,
      progress: ({ rows, missing, running }: KernelReport) => {
        told.push(`${running?.family ?? "-"}: ${rows.length} measured, ${missing.length} missing`);
        return Promise.resolve();
      },
    };
    await expect(measureKernels([copy!, gemm!], quickEffort, options)).rejects.toThrow(/^no kernel could be/);
    expect(told.at(-1)).toBe("-: 0 measured, 4 missing");
    told.splice(0);
    await measureKernels([copy!], quickEffort, { ...options, seconds: 60 });
    expect(told.slice(0, 3)).toEqual([
      ...["copy: 0 measured, 1 missing", "-: 1 measured, 0 missing", "-: 1 measured, 0 missing"],
    ]);
  });

  test("stops when the GPU is lost, and goes on in another run without what broke it", async () => {
    const lose = family("fatal", () => {
      jest.spyOn(Device.prototype, "timestamp").mockRejectedValue(new Error("an illegal address"));
      throw new Error("an illegal address");
    });
    const families = [copy!, lose, gemm!];
    const told: KernelReport[] = [];
    const progress = (known: KernelReport) => Promise.resolve(void told.push(known));
    try {
      await expect(measureKernels(families, quickEffort, { progress })).rejects.toThrow(/GPU is lost/);
    } finally {
      jest.restoreAllMocks();
    }
    const previous = told.at(-1)!;
    expect(previous.rows).toEqual([]);
    expect(previous.failures).toMatchObject([{ family: "fatal", reason: "Error: an illegal address" }]);
    const { rows, failures, missing } = await measureKernels(families, quickEffort, { previous });
    expect(new Set(rows.map(({ family }) => family))).toEqual(new Set([copy!.name, gemm!.name]));
    expect([failures, missing]).toEqual([previous.failures, []]);
  });

  test("a run after one that ended leaves out what that had just begun", async () => {
    const running = { size: copy!.size, family: copy!.name, dtype: "f32" } as const;
    const previous = { ...report, rows: [], running };
    const { rows, failures } = await measureKernels([copy!, gemm!], quickEffort, { previous });
    expect(new Set(rows.map(({ family }) => family))).toEqual(new Set([gemm!.name]));
    expect(failures).toEqual([{ ...running, reason: "the program did not survive it" }]);
  });
});
