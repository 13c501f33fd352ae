import { spawnSync } from "node:child_process";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";
import { barsOf } from "../../bench/cuda/bars.js";
import { parseGpuState } from "../../bench/cuda/machine.js";
import type { KernelReport, KernelResult } from "../../bench/cuda/measure-kernels.js";
import { deviceSlug, mergeRecords, type PartRecord, printReport } from "../../bench/cuda/report.js";
import { parseSanitizer } from "../../bench/cuda/sanitizer.js";
import { Terminal } from "../../lib/cli/terminal.js";

describe("the output of compute-sanitizer", () => {
  test.each([
    ["ERROR SUMMARY: 0 errors", 0, 0],
    ["ERROR SUMMARY: 1 error", 1, 0],
    [
      "ERROR SUMMARY: 131 errors\n========= ERROR SUMMARY: 31 errors were not printed. Use --print-limit",
      131,
      0,
    ],
    ["RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", 0, 0],
    ["RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)", 1, 0],
    ["RACECHECK SUMMARY: 5 hazards displayed (2 errors, 3 warnings)", 2, 3],
  ])("%j", (summary, errors, warnings) => {
    const output = `========= COMPUTE-SANITIZER\n3 of 3 cases of 2 ops\n========= ${summary}\n`;
    expect(parseSanitizer(output)).toMatchObject({ errors, warnings });
  });

  test("keeps what it says of an error, and nothing of the program's own", () => {
    const error = [
      "========= Invalid __global__ read of size 4 bytes",
      "=========     at run_kernel<Fill>+0x70",
    ];
    const lines = ["a line of the program", ...error, "========= ERROR SUMMARY: 1 error"];
    expect(parseSanitizer(lines.join("\n"))?.excerpt).toEqual(lines.slice(1));
  });

  test.each([
    "",
    "========= COMPUTE-SANITIZER\n",
    "ERROR SUMMARY: 0 errors",
    "========= Internal Sanitizer Error",
  ])("%j has no result", (output) => {
    expect(parseSanitizer(output)).toBeUndefined();
  });
});

test("the state of a GPU is read, and what a GPU does not have left out", () => {
  const csv =
    "NVIDIA H100 80GB HBM3, 580.65.06, 9.0, 81559, P0, 41, 1980, 1980, 2619, 2619, 312.55, [N/A]\nother, 1\n";
  const state = parseGpuState(csv);
  expect(state).toMatchObject({
    name: "NVIDIA H100 80GB HBM3",
    driver_version: "580.65.06",
    compute_cap: "9.0",
  });
  expect(state).toMatchObject({ "memory.total": 81559, "temperature.gpu": 41, "power.draw": 312.55 });
  expect(state).not.toHaveProperty(["power.limit"]);
});

function row(name: string, of: Partial<KernelResult>, microseconds: number): KernelResult {
  const seconds = microseconds / 1e6;
  return {
    ...{ name, size: "paper", dtype: "f32", bytes: 0, flops: 0, numSets: 4, callsPerSample: 5 },
    ...{ seconds: { median: seconds, p10: seconds, p90: seconds }, pipelineSeconds: seconds },
    ...{ floorSeconds: seconds, bound: "memory", samples: { device: [seconds], pipeline: [seconds] } },
    ...of,
  };
}

/** A fast GPU but for `changes`. */
function kernelReport(...changes: KernelResult[]): KernelReport {
  const product = { size: "b4", dtype: "bf16", flops: 400e6 } as const;
  const rows = [
    row("router_topk + dispatch k=2", {}, 7),
    row("router_topk + dispatch k=16", {}, 12),
    row("grouped_gemm bias k=2", product, 1),
    row("grouped_gemm_wgrad k=2", product, 1.25),
    row("grouped_gemm bias k=2", { ...product, dtype: "f32" }, 100),
    row("combine k=8", { bytes: 80e6 }, 100),
    row("rel_attention", { dtype: "f32" }, 900),
    row("rel_attention", { dtype: "bf16" }, 130),
    row("rel_attention_backward", { dtype: "bf16" }, 420),
  ].filter(
    (each) =>
      !changes.some(
        ({ name, dtype, size }) => each.name === name && each.dtype === dtype && each.size === size,
      ),
  );
  return {
    ...{
      device: "GPU",
      rows: [...rows, ...changes],
      failures: [],
      drift: { name: "copy", first: 1, last: 1 },
    },
    rates: { copyBytesPerSecond: 1e12, flopsPerSecond: {} },
  };
}

describe("bars", () => {
  const met = (kernels: KernelReport | undefined, layerSeconds?: number) =>
    barsOf(kernels, layerSeconds).map(({ isMet }) => isMet);

  test("are met at their limits", () => {
    expect(met(kernelReport(), 700e-6)).toEqual([true, true, true, true, true, true]);
  });

  test("that were not measured are neither met nor missed", () => {
    expect(met(undefined)).toEqual([null, null, null, null, null, null]);
    expect(met(kernelReport())[1]).toBeNull();
  });

  test.each([
    [0, row("router_topk + dispatch k=16", {}, 12.1)],
    [2, row("grouped_gemm_wgrad k=2", { size: "b4", dtype: "bf16", flops: 400e6 }, 1.4)],
    [3, row("combine k=8", { bytes: 80e6 }, 110)],
    [4, row("rel_attention", { dtype: "bf16" }, 131)],
    [5, row("rel_attention_backward", { dtype: "bf16" }, 421)],
  ])("number %p is missed for one row", (bar, slower) => {
    const bars = barsOf(kernelReport(slower), 1e-3);
    expect(bars.flatMap(({ isMet }, i) => (isMet === false ? [i] : []))).toEqual(
      [...new Set([1, bar])].sort(),
    );
    expect(bars[bar]?.measured).toContain(slower.name);
  });
});

function record(part: string, changes: Partial<PartRecord> = {}): PartRecord {
  return {
    ...{ part, status: "passed", summary: `${part} done`, seconds: 12, date: "2026-01-01T00:00:00.000Z" },
    ...{ commit: "0123456789ab", sources: "a", emulated: false, quick: false, results: null },
    gpu: [
      { name: "NVIDIA H100 80GB HBM3", driver_version: "580.65.06", "clocks.sm": 1980 },
      { "clocks.sm": 1410 },
    ],
    ...changes,
  };
}

describe("the report", () => {
  const order = ["build", "test", "sanitize", "kernels"];

  test("has the parts in order, what is missing and what belongs to other sources", () => {
    const later = { date: "2026-01-02T00:00:00.000Z", sources: "b", commit: "ba9876543210" };
    const report = mergeRecords(
      [record("kernels", later), record("test"), record("build", later)],
      order,
      {},
    );
    expect(report).toMatchObject({
      device: "NVIDIA H100 80GB HBM3",
      commit: "ba9876543210",
      date: later.date,
    });
    expect(report.parts.map(({ part }) => part)).toEqual(["build", "test", "kernels"]);
    expect(report.remarks).toEqual([
      "did not run: sanitize",
      expect.stringMatching(/^ran on other sources .*: test$/),
    ]);
    expect(deviceSlug(report.device)).toBe("nvidia-h100-80gb-hbm3");
  });

  test("tells a GPU from an emulated one, and benchmarks from tiny sizes", () => {
    const kernels = { results: kernelReport() };
    const barOf = (changes: Partial<PartRecord>) =>
      mergeRecords([record("kernels", { ...kernels, ...changes })], order, {}).bars[0]?.isMet;
    expect([barOf({}), barOf({ quick: true }), barOf({ emulated: true })]).toEqual([true, null, null]);
    expect(mergeRecords([record("test", { emulated: true })], order, {}).device).toBe("emulated GPU");
  });

  test("takes our layer's time from the comparisons with peers", () => {
    const rows = [
      { name: "moe_block forward paper k=8", dtype: "bf16", mode: "device", ours: { median: 1e-4 } },
      { name: "moe_block forward+backward paper k=8", dtype: "bf16", mode: "queued", ours: { median: 9e-4 } },
      { name: "moe_block forward+backward paper k=8", dtype: "bf16", mode: "device", ours: { median: 6e-4 } },
    ];
    const { bars } = mergeRecords([record("layers", { results: { rows } })], [...order, "layers"], {});
    expect(bars[1]).toMatchObject({ measured: "600 us (median)", isMet: true });
    const failed = mergeRecords([record("layers", { results: null })], [...order, "layers"], {});
    expect(failed.bars[1]).toMatchObject({ measured: "", isMet: null });
  });

  test("is printed with what failed and the bars last", () => {
    const failed = record("sanitize", { status: "failed", summary: "racecheck: 2 errors" });
    const report = mergeRecords([failed, record("kernels", { results: kernelReport() })], order, {
      nvcc: "13.0",
    });
    const out = new PassThrough({ encoding: "utf8" });
    printReport(report, new Terminal(out));
    const lines = String(out.read()).trim().split("\n");
    expect(lines).toContain("  sanitize  failed     12 s  racecheck: 2 errors");
    expect(lines.join("\n")).toContain("driver 580.65.06, 1410 to 1980 MHz");
    expect(lines.at(-6)).toBe(
      "  yes           gate + top-k + index, 11264 tokens, 16 experts: 12.0 us (router_topk + dispatch k=16), at most 12 us",
    );
    expect(lines.at(-5)).toMatch(/^ {2}not measured {2}MoE layer k=8/);
  });
});

describe("scripts/gpu-check.mjs", () => {
  const script = fileURLToPath(new URL("../../scripts/gpu-check.mjs", import.meta.url));
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [script, ...args], { encoding: "utf8", env: { PATH: "" } });

  test("says what is missing on a machine without a GPU, and what to do", () => {
    expect(run("build")).toMatchObject({
      status: 1,
      stdout: "",
      stderr: expect.stringMatching(/^No NVIDIA GPU: .*--emulated/),
    });
  });

  test("knows its parts", () => {
    expect(run("sanitise")).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^There is no part "sanitise"/),
    });
    expect(run("--help")).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Usage/) });
  });
});
