import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "@jest/globals";
import type { KernelReport } from "../../bench/cuda/measure-kernels.js";
import type { GpuReport } from "../../bench/cuda/report.js";

const script = fileURLToPath(new URL("../../scripts/gpu-check.mjs", import.meta.url));

test.each(["SIGTERM", "SIGKILL"] as const)("%s leaves what has been measured before", async (signal) => {
  const out = mkdtempSync(join(tmpdir(), "gpu-check-"));
  const file = join(out, "report.json");
  const kernelsIn = () => {
    if (!existsSync(file)) return undefined;
    const [part] = (JSON.parse(readFileSync(file, "utf8")) as GpuReport).parts;
    return part && { ...part, results: part.results as KernelReport | null };
  };
  const args = [script, "kernels", "--emulated", "--quick", "--out", out];
  const child = spawn(process.execPath, args, { stdio: "ignore" });
  const ended = once(child, "exit");
  while ((kernelsIn()?.results?.rows.length ?? 0) === 0) {
    expect(child.exitCode).toBeNull();
    await sleep(20);
  }
  child.kill(signal);
  await ended;
  const { status, summary, results } = kernelsIn()!;
  expect([status, summary]).toEqual(["failed", "it was ended before it was done"]);
  expect(results?.rows[0]).toMatchObject({ name: "copy", seconds: { median: expect.any(Number) } });
  expect(results?.missing.length).toBeGreaterThan(0);
  rmSync(out, { recursive: true });
});
