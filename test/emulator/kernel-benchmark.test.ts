import { beforeAll, describe, expect, test } from "@jest/globals";
import { kernelFamilies, quickSizes } from "../../bench/cuda/kernel-cases.js";
import { type KernelReport, measureKernels, quickEffort } from "../../bench/cuda/measure-kernels.js";
import type { OpCase } from "../../bench/op-cases.js";
import { openDevice } from "../../lib/device.js";

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
    expect(report.failures).toEqual([]);
    expect(leftBytes).toBe(0);
  });

  test("goes on without kernels that fail at once or later", async () => {
    const family = (build: () => OpCase[]) => ({ size: "b4", hasProducts: false, build }) as const;
    const broken = family(() => {
      throw new Error("no memory");
    });
    let calls = 0;
    const queue = () => {
      // It has warmed up by then.
      if ((calls += 1) > 100) throw new Error("no more");
    };
    const worn = family(() => [{ name: "worn", work: { bytes: 1e9 }, queue }]);
    const families = [...kernelFamilies(quickSizes).slice(0, 1), broken, worn];
    const { rows, failures } = await measureKernels(families, { ...quickEffort, rounds: 101 });
    expect(rows.map(({ name }) => name)).toEqual(["copy"]);
    expect(failures.map(({ reason }) => reason)).toEqual(["Error: no memory", "worn: Error: no more"]);
  });
});
