import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";

import type { Report } from "../../bench/report.js";

const root = fileURLToPath(new URL("../..", import.meta.url));

function node(...args: string[]): string {
  return execFileSync(process.execPath, args, { cwd: root, encoding: "utf8", stdio: "pipe" });
}

describe("bench --quick", () => {
  const folder = mkdtempSync(join(tmpdir(), "bench-"));
  const file = join(folder, "results.json");
  let output: string;
  let report: Report;

  beforeAll(() => {
    node("scripts/build-bench.mjs");
    output = node("--import", "./scripts/typescript.mjs", "bench/bench.ts", "--quick", "--json", file);
    report = JSON.parse(readFileSync(file, "utf8")) as Report;
  }, 180_000);

  afterAll(() => {
    rmSync(folder, { recursive: true });
  });

  test.each([
    "grouped_gemm gather+bias+relu k=2",
    "grouped_gemm_dgrad k=8",
    "grouped_gemm_wgrad k=8",
    "gemm nn 512x512x512",
    "gemm nt 512x512x512",
    "gemm tn 512x512x512",
    "combine k=8",
    "layer_norm with residual",
    "layer_norm of routed rows k=8",
    "adam",
  ])("has %s", (name) => {
    const results = report.ops.filter((op) => op.name === name);
    expect(results.map(({ threads }) => threads)).toContain(1);
    for (const { secondsPerCall, rate, shareOfPeak, samples } of results) {
      const rates = [rate, shareOfPeak, ...samples.peak].flatMap((each) => [
        each.perSecond,
        each.perCpuSecond,
      ]);
      for (const number of [secondsPerCall, ...rates, ...samples.seconds]) {
        expect(number).toBeGreaterThan(0);
        expect(number).toBeLessThan(Infinity);
      }
    }
    expect(output).toContain(name);
  });

  test("has what training costs", () => {
    const { tokensPerSecond, javascriptShare, eventLoopDelayMs, samples } = report.training!;
    for (const number of [tokensPerSecond, javascriptShare.busy, eventLoopDelayMs.p99, ...samples]) {
      expect(number).toBeGreaterThan(0);
      expect(number).toBeLessThan(Infinity);
    }
    for (const share of [javascriptShare.busy, javascriptShare.cpu ?? 0]) {
      expect(share).toBeGreaterThanOrEqual(0);
      expect(share).toBeLessThanOrEqual(1);
    }
    expect(output).toMatch(/event-loop delay p99 +[\d.]+ ms +at most 30 ms/);
  });

  test.each([
    ["PyTorch", ["moe_block forward+backward k=8", "training_step k=2"]],
    ["tfjs-wasm", ["moe_block forward k=2"]],
  ])("compares with %s, or says how to install it", (rival, names) => {
    const missing = report.missingPeers.find(({ name }) => name === rival);
    if (missing) {
      console.log(`not compared with ${rival}, which is not installed: ${missing.install}`);
      expect(output).toContain(`not compared with ${rival}: ${missing.install}`);
      return;
    }
    for (const name of names) {
      const results = report.comparisons.filter((result) => result.name === name && result.rival === rival);
      expect(results.map(({ threads }) => threads)).toContain(1);
      for (const { seconds, ratio } of results) expect(ratio).toBeCloseTo(seconds.ours / seconds.theirs);
      expect(output).toContain(name);
    }
  });

  test("compares bf16 products with float32", () => {
    const names = report.comparisons.filter(({ rival }) => rival === "f32").map(({ name }) => name);
    expect(names).toContain("training_step bf16 k=2");
  });

  test("has what generation and a first step cost", () => {
    for (const { secondsPerToken, bytesPerToken, floorSecondsPerToken } of report.generation) {
      expect(floorSecondsPerToken).toBeGreaterThan(0);
      expect(secondsPerToken).toBeGreaterThan(floorSecondsPerToken);
      expect(bytesPerToken).toBeGreaterThan(1e6);
    }
    expect(report.generation.map(({ experts }) => experts)).toEqual([2, 8]);
    expect(report.startup?.importToFirstStepMs).toBeGreaterThan(1);
    expect(output).toMatch(/import to first step +[\d.]+ ms +at most 300 ms/);
  });

  test("names the machine and the moment", () => {
    expect(report.machine).toEqual({
      cpu: expect.any(String),
      cores: expect.any(Number),
      node: process.version,
      device: expect.stringContaining("thread"),
    });
    expect(Date.parse(report.date)).toBeGreaterThan(0);
  });
});

test("bench --profile shows where a computation's time goes", () => {
  const output = node(
    "--import",
    "./scripts/typescript.mjs",
    "bench/bench.ts",
    "step k=8",
    "--profile",
    "--quick",
  );
  expect(output).toMatch(/^training_step k=8: [\d.]+ ms/m);
  // One product of the experts forward, one back, and one for the input's gradient: three a layer, which is one here.
  expect(output).toMatch(/^ +groupedGemm +3 +[\d.]+ +[\d.]+ %$/m);
});

test("an unknown pattern is refused with what to do", () => {
  expect(() =>
    node("--import", "./scripts/typescript.mjs", "bench/bench.ts", "no-such-op", "--quick"),
  ).toThrow(/nothing has "no-such-op" in its name/);
});
