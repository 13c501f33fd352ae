import { execFileSync } from "node:child_process";
import { availableParallelism, cpus } from "node:os";

import { count, type Terminal } from "../lib/cli/terminal.js";
import type { Device } from "../lib/device.js";
import type { OpResult } from "./measure-ops.js";
import type { OpShare } from "./profile.js";
import { median, spread } from "./statistics.js";
import { eventLoopDelayLimitMs, type TrainingResult } from "./training.js";

/** Everything one run of the benchmark found out. */
export interface Report {
  machine: { cpu: string; cores: number; node: string; device: string };
  /** Of the checkout, `-dirty` with changes; null outside of git. */
  commit: string | null;
  date: string;
  ops: OpResult[];
  training: TrainingResult | null;
}

export function describeRun(device: Device): Pick<Report, "machine" | "commit" | "date"> {
  return {
    machine: {
      cpu: cpus()[0]?.model.trim() ?? "unknown",
      cores: availableParallelism(),
      node: process.version,
      device: device.description,
    },
    commit: currentCommit(),
    date: new Date().toISOString(),
  };
}

function currentCommit(): string | null {
  try {
    const args = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
    return execFileSync("git", args, { cwd: import.meta.dirname, encoding: "utf8", stdio: "pipe" }).trim();
  } catch {
    return null;
  }
}

export function printReport({ machine, ops, training }: Report, terminal: Terminal): void {
  terminal.heading(`${machine.cpu}, ${machine.cores} cores, ${machine.device}, Node ${machine.node}`);
  if (ops.length > 0) {
    terminal.table(["op", "threads", "ms", "+-", "rate", "share of peak", "in CPU time"], ops.map(opRow));
    terminal.pairs(fmaPeaks(ops));
  }
  if (training) {
    terminal.heading("Training the quickstart");
    const { tokensPerSecond, javascriptShare, eventLoopDelayMs, samples } = training;
    terminal.pairs([
      [
        "tokens/s",
        `${count(tokensPerSecond)} (${milliseconds(median(samples))} ms a step, +- ${percent(spread(samples))})`,
      ],
      ["TypeScript + binding", describeShare(javascriptShare)],
      [
        "event-loop delay p99",
        `${eventLoopDelayMs.p99.toFixed(1)} ms (limit ${eventLoopDelayLimitMs} ms), longest ${eventLoopDelayMs.max.toFixed(1)} ms`,
      ],
    ]);
  }
}

function describeShare({ cpu, busy }: TrainingResult["javascriptShare"]): string {
  if (cpu === null) return `at most ${percent(busy)} of a step`;
  return `${percent(cpu)} of a step in CPU time, ${percent(busy)} with waits for a core`;
}

function opRow({ name, threads, work, secondsPerCall, rate, shareOfPeak, samples }: OpResult): string[] {
  const [unit, peak] = "flops" in work ? ["GFLOP/s", "FMA   "] : ["GB/s   ", "memcpy"];
  return [
    name,
    String(threads),
    milliseconds(secondsPerCall),
    percent(spread(samples.seconds)),
    `${(rate.perSecond / 1e9).toFixed(1)} ${unit}`,
    `${percent(shareOfPeak.perSecond)} ${peak}`,
    percent(shareOfPeak.perCpuSecond),
  ];
}

function fmaPeaks(ops: readonly OpResult[]): [name: string, value: string][] {
  const compute = ops.filter(({ work }) => "flops" in work);
  return [...new Set(compute.map(({ threads }) => threads))].map((threads) => {
    const samples = compute.filter((op) => op.threads === threads).flatMap((op) => op.samples.peak);
    const [elapsed, cpu] = [samples.map((peak) => peak.perSecond), samples.map((peak) => peak.perCpuSecond)];
    return [
      `FMA peak, ${threads} ${threads === 1 ? "thread" : "threads"}`,
      `${gigaflops(elapsed)} GFLOP/s; per CPU second ${gigaflops(cpu)}`,
    ];
  });
}

function gigaflops(samples: readonly number[]): string {
  return `${(median(samples) / 1e9).toFixed(1)} (+- ${percent(spread(samples))})`;
}

export function printProfile(shares: readonly OpShare[], terminal: Terminal): void {
  const total = shares.reduce((sum, { secondsPerStep }) => sum + secondsPerStep, 0);
  terminal.heading(
    `One training step of the quickstart, ${milliseconds(total)} ms with a wait after each op`,
  );
  terminal.table(
    ["op", "calls", "ms", "share"],
    shares.map(({ op, callsPerStep, secondsPerStep }) => [
      op,
      callsPerStep.toFixed(0),
      milliseconds(secondsPerStep),
      percent(secondsPerStep / total),
    ]),
  );
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}

function milliseconds(seconds: number): string {
  return (1000 * seconds).toFixed(3);
}
