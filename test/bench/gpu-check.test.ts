import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { barsOf } from "../../bench/cuda/bars.js";
import { parseGpuState } from "../../bench/cuda/machine.js";
import { type KernelReport, type KernelResult, withFloor } from "../../bench/cuda/measure-kernels.js";
import {
  deviceSlug,
  type GpuReport,
  mergeRecords,
  type PartRecord,
  printReport,
} from "../../bench/cuda/report.js";
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
    ...{ name, size: "paper", dtype: "f32", family: name, bytes: 0, flops: 0, numSets: 4, callsPerSample: 5 },
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
      missing: [],
      running: null,
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

describe("without a copy's time", () => {
  const rates = { copyBytesPerSecond: 0, flopsPerSecond: { f32: 1e12 } };

  test("no share of its bandwidth is known", () => {
    const bar = barsOf({ ...kernelReport(), rates }, undefined)[3];
    expect(bar).toMatchObject({ measured: "", isMet: null });
  });

  test("nor is a floor, nor that of products without a product's time", () => {
    const of = row("combine k=8", { bytes: 8e6, flops: 1e6 }, 100);
    const floor = (...[rate, flopsPerSecond]: [number, Partial<Record<"f32", number>>]) => {
      const { floorSeconds, bound } = withFloor(of, { copyBytesPerSecond: rate, flopsPerSecond });
      return [floorSeconds, bound];
    };
    expect(floor(0, { f32: 1e12 })).toEqual([null, null]);
    expect(floor(1e12, { f32: 0 })).toEqual([null, null]);
    expect(floor(1e12, {})).toEqual([null, null]);
    expect(floor(1e12, { f32: 1e12 })).toEqual([8e-6, "memory"]);
    expect(withFloor({ ...of, flops: 0 }, { copyBytesPerSecond: 1e12, flopsPerSecond: {} })).toMatchObject({
      floorSeconds: 8e-6,
    });
  });
});

function record(part: string, changes: Partial<PartRecord> = {}): PartRecord {
  return {
    ...{ part, status: "passed", summary: `${part} done`, seconds: 12, date: "2026-01-01T00:00:00.000Z" },
    ...{ commit: "0123456789ab", sources: "a", emulated: false, quick: false, results: null },
    versions: { nvcc: "13.0" },
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
    const report = mergeRecords([record("kernels", later), record("test"), record("build", later)], order);
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
      mergeRecords([record("kernels", { ...kernels, ...changes })], order).bars[0]?.isMet;
    expect([barOf({}), barOf({ quick: true }), barOf({ emulated: true })]).toEqual([true, null, null]);
    expect(mergeRecords([record("test", { emulated: true })], order).device).toBe("emulated GPU");
  });

  test("takes our layer's time from the comparisons with peers", () => {
    const rows = [
      { name: "moe_block forward paper k=8", dtype: "bf16", mode: "device", ours: { median: 1e-4 } },
      { name: "moe_block forward+backward paper k=8", dtype: "bf16", mode: "queued", ours: { median: 9e-4 } },
      { name: "moe_block forward+backward paper k=8", dtype: "bf16", mode: "device", ours: { median: 6e-4 } },
    ];
    const { bars } = mergeRecords([record("layers", { results: { rows } })], [...order, "layers"]);
    expect(bars[1]).toMatchObject({ measured: "600 us (median)", isMet: true });
    const failed = mergeRecords([record("layers", { results: null })], [...order, "layers"]);
    expect(failed.bars[1]).toMatchObject({ measured: "", isMet: null });
  });

  test("takes the latest record of a part that ran several times", () => {
    const older = record("kernels", { summary: "older", versions: { nvcc: "12.0" } });
    const later = record("kernels", { summary: "later", date: "2026-01-02T00:00:00.000Z" });
    for (const records of [
      [older, later],
      [later, older],
    ])
      expect(mergeRecords(records, order)).toMatchObject({
        versions: { nvcc: "13.0" },
        parts: [{ summary: "later" }],
      });
  });

  test("is of one GPU", () => {
    const other = record("test", { gpu: [{}, { name: "NVIDIA H200" }] });
    expect(() => mergeRecords([record("build"), other], order)).toThrow(
      /^records of different GPUs: NVIDIA H100 80GB HBM3 and NVIDIA H200\./,
    );
  });

  test("says which rows are missing, and why", () => {
    const family = { size: "b4", dtype: "bf16" } as const;
    const kernels = {
      ...kernelReport(),
      failures: [{ ...family, family: "experts k=2", reason: "no memory" }],
      missing: [{ ...family, family: "attention" }],
    };
    const what = { name: "moe_block forward", rival: "eager", dtype: "bf16" };
    const missing = [{ ...what, kind: "peer", reason: "it has ended" }];
    const out = new PassThrough({ encoding: "utf8" });
    const parts = [
      record("kernels", { results: kernels }),
      record("layers", { results: { rows: [], missing } }),
    ];
    printReport(mergeRecords(parts, [...order, "layers"]), new Terminal(out));
    const lines = String(out.read()).split("\n");
    const begin = lines.indexOf("Missing, or not complete");
    expect(lines.slice(begin + 1, begin + 4)).toEqual([
      "  kernels: b4 experts k=2 bf16: no memory",
      "  kernels: b4 attention bf16: it was not measured before the end",
      "  layers: moe_block forward bf16 with eager: it has ended",
    ]);
  });

  test("is printed with what failed and the bars last", () => {
    const failed = record("sanitize", { status: "failed", summary: "racecheck: 2 errors" });
    const report = mergeRecords([failed, record("kernels", { results: kernelReport() })], order);
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
  const run = (args: string[], path = "") =>
    spawnSync(process.execPath, [script, ...args], { encoding: "utf8", env: { PATH: path } });
  let out: string;
  let bin: string;

  beforeEach(() => {
    out = mkdtempSync(join(tmpdir(), "gpu-check-"));
    bin = join(out, "bin");
    mkdirSync(bin);
  });

  afterEach(() => {
    rmSync(out, { recursive: true });
  });

  const reportIn = (folder: string) =>
    JSON.parse(readFileSync(join(folder, "report.json"), "utf8")) as GpuReport;

  test("says what is missing on a machine without a GPU, and what to do", () => {
    expect(run(["build"])).toMatchObject({
      status: 1,
      stdout: "",
      stderr: expect.stringMatching(/^No NVIDIA GPU: .*--emulated/),
    });
  });

  test("knows its parts and options", () => {
    expect(run(["sanitise"])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^There is no part "sanitise"/),
    });
    expect(run(["--seconds", "long"])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^--seconds takes a number, not "long"/),
    });
    expect(run(["--help"])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^Usage/) });
  });

  const addGpu = (name: string) =>
    writeFileSync(join(bin, "nvidia-smi"), `#!/bin/sh\necho '${name}, 580.65.06, 9.0'\n`, { mode: 0o755 });

  test("goes on after a part that fails, and leaves report and log in the folder it is given", () => {
    addGpu("NVIDIA H100 80GB HBM3");
    const folder = join(out, "results");
    const { status, stdout } = run(["layers", "build", "report", "--quick", "--out", folder], bin);
    expect(status).toBe(1);
    const { device, parts, remarks } = reportIn(folder);
    expect(device).toBe("NVIDIA H100 80GB HBM3");
    expect(parts).toMatchObject([
      { part: "build", status: "failed", summary: expect.stringMatching(/^cmake is missing: install/) },
      { part: "layers", status: "failed", summary: expect.stringMatching(/^python3 is missing: install/) },
    ]);
    expect(remarks).toEqual(["did not run: test, replay, kernels, sanitize"]);
    expect(readdirSync(folder).sort()).toEqual(["gpu-check.log", "report.json"]);
    expect(readFileSync(join(folder, "gpu-check.log"), "utf8")).toBe(stdout);
    expect(stdout).toMatch(/=== build, .*=== layers, .*\nParts\n/s);
  });

  const reportOf = (...parts: PartRecord[]) => {
    writeFileSync(join(out, "report.json"), JSON.stringify({ parts }));
  };

  test("a part that fails without results leaves those of an earlier run in the report", () => {
    addGpu("NVIDIA H100 80GB HBM3");
    const rows = { rows: [], missing: [] };
    reportOf(record("build", { quick: true }), record("layers", { quick: true, results: rows }));
    const { status, stdout } = run(["build", "layers", "--quick", "--out", out], bin);
    expect(status).toBe(1);
    expect(stdout).toContain("layers: failed, python3 is missing");
    expect(reportIn(out).parts).toMatchObject([
      { part: "build", status: "failed", summary: expect.stringMatching(/^cmake is missing/) },
      { part: "layers", status: "passed", summary: "layers done", results: rows },
    ]);
  });

  test("adds nothing to the report of another GPU", () => {
    addGpu("NVIDIA H200");
    reportOf(record("test", { quick: true }));
    expect(run(["build", "--quick", "--out", out], bin)).toMatchObject({
      ...{ status: 1, stdout: "" },
      stderr: expect.stringMatching(/^records of different GPUs: NVIDIA H100 80GB HBM3 and NVIDIA H200\./),
    });
  });

  test("a part without time for it is no success, whatever the report says", () => {
    reportOf(record("build", { emulated: true }));
    const { status, stdout } = run(["build", "report", "--emulated", "--seconds", "9", "--out", out]);
    expect(stdout).toMatch(/=== build: there is no time left\n.* {2}build +passed/s);
    expect(status).toBe(1);
  });

  test("begins no part without time for it", () => {
    const { status, stdout } = run(["build", "layers", "--emulated", "--seconds", "9", "--out", out]);
    expect(status).toBe(1);
    expect(stdout.match(/^=== .*/gm)).toEqual([
      "=== build: there is no time left",
      "=== layers: there is no time left",
    ]);
  });

  test("puts the reports of several runs together", () => {
    const later = { date: "2026-01-02T00:00:00.000Z", summary: "later" };
    const reports = [
      [record("build"), record("test", { summary: "earlier" })],
      [record("test", later), record("kernels", { results: kernelReport() })],
    ].map((parts, i) => {
      const file = join(out, `${i}.json`);
      writeFileSync(file, JSON.stringify({ parts: parts.map((each) => ({ ...each, quick: true })) }));
      return ["--from", file];
    });
    const { status, stdout } = run(["report", "--quick", "--out", out, ...reports.flat()]);
    expect(stdout).toMatch(/ {2}build .* {2}test +passed .* later\n.* {2}kernels /s);
    expect(status).toBe(0);
    expect(run(["report", "--quick", "--out", out, "--from", bin])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/bin is no report: pass a report\.json/),
    });
  });
});
