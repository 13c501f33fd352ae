import { execFileSync } from "node:child_process";
import { availableParallelism, cpus } from "node:os";

import { count, type Terminal } from "../lib/cli/terminal.js";
import type { Device } from "../lib/device.js";
import type { ComparisonResult } from "./compare.js";
import type { GenerationResult } from "./generation.js";
import type { OpResult } from "./measure-ops.js";
import type { OpShare } from "./profile.js";
import type { StartupResult } from "./startup.js";
import { median, spread } from "./statistics.js";
import { isMet, type Target, targetsOf } from "./targets.js";
import type { TrainingResult } from "./training.js";

/** Everything one run of the benchmark found out. */
export interface Report {
  machine: { cpu: string; cores: number; node: string; device: string };
  /** Of the checkout, `-dirty` with changes; null outside of git. */
  commit: string | null;
  date: string;
  ops: OpResult[];
  comparisons: ComparisonResult[];
  /** Commands that install the peers without which comparisons were left out. */
  missingPeers: { name: string; install: string }[];
  training: TrainingResult | null;
  generation: GenerationResult[];
  startup: StartupResult | null;
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

export function printReport(report: Report, terminal: Terminal): void {
  const { machine, ops, comparisons, missingPeers, training, generation, startup } = report;
  terminal.heading(`${machine.cpu}, ${machine.cores} cores, ${machine.device}, Node ${machine.node}`);
  if (ops.length > 0) {
    terminal.table(["op", "threads", "ms", "+-", "rate", "share of peak", "in CPU time"], ops.map(opRow));
    terminal.pairs(fmaPeaks(ops));
  }
  if (comparisons.length > 0) printComparisons(comparisons, terminal);
  for (const { name, install } of missingPeers) terminal.print(`  not compared with ${name}: ${install}`);
  if (training) {
    terminal.heading("Quickstart training");
    terminal.pairs(trainingPairs(training));
  }
  if (generation.length > 0) {
    terminal.heading("Quickstart generation");
    terminal.pairs(generation.map(generationPair));
  }
  if (startup) {
    terminal.heading("Start-up");
    const { importToFirstStepMs, samples } = startup;
    const range = `${percent(spread(samples))} of ${samples.length} processes`;
    terminal.pairs([["import to first step", `${importToFirstStepMs.toFixed(0)} ms (+- ${range})`]]);
  }
  const targets = targetsOf(report);
  if (targets.length === 0) return;
  terminal.heading("Other targets");
  terminal.table(["", "measured", "target", "met"], targets.map(targetRow));
}

function printComparisons(comparisons: readonly ComparisonResult[], terminal: Terminal): void {
  const setUps = [...new Set(comparisons.map(setUpOf))];
  terminal.heading("Beside others");
  terminal.table(
    ["case", "with", "threads", "ours ms", "+-", "theirs ms", "+-", "ratio", "target", "met", "of FMA peak"],
    comparisons.map((comparison) => {
      const { name, rival, threads, seconds, samples, ratio, target, shareOfPeak } = comparison;
      return [
        ...[name, `${rival} ${letter(setUps.indexOf(setUpOf(comparison)))}`, String(threads)],
        ...[tenths(seconds.ours), percent(spread(samples.ours))],
        ...[tenths(seconds.theirs), percent(spread(samples.theirs)), ratio.toFixed(3)],
        ...(target === null ? ["", ""] : [target.toFixed(3), yesNo(ratio <= target)]),
        shareOfPeak === null ? "" : percent(shareOfPeak),
      ];
    }),
  );
  terminal.pairs(setUps.map((setUp, i) => [letter(i), setUp]));
}

function setUpOf({ rival, settings }: ComparisonResult): string {
  return `${rival} ${settings}`;
}

function letter(i: number): string {
  return String.fromCharCode("A".charCodeAt(0) + i);
}

function trainingPairs(training: TrainingResult): [name: string, value: string][] {
  const { tokensPerSecond, javascriptShare, eventLoopDelayMs, samples } = training;
  const step = `${milliseconds(median(samples))} ms a step, +- ${percent(spread(samples))}`;
  const { p99, max } = eventLoopDelayMs;
  return [
    ["tokens/s", `${count(tokensPerSecond)} (${step})`],
    ["TypeScript + binding", describeShare(javascriptShare)],
    ["event-loop delay", `p99 ${p99.toFixed(1)} ms, longest ${max.toFixed(1)} ms`],
  ];
}

function generationPair(result: GenerationResult): [name: string, value: string] {
  const { experts, threads, secondsPerToken, bytesPerToken, floorSecondsPerToken, ratio, samples } = result;
  const floor = `${(bytesPerToken / 1e6).toFixed(2)} MB of weights take ${milliseconds(floorSecondsPerToken)} ms`;
  const time = `${milliseconds(secondsPerToken)} ms a token (+- ${percent(spread(samples.secondsPerToken))})`;
  return [`k=${experts}, threads ${threads}`, `${time}; to read ${floor}: ${ratio.toFixed(1)} times that`];
}

function targetRow(target: Target): string[] {
  const { name, value, limit, good, unit } = target;
  return [name, `${value.toFixed(1)} ${unit}`, `${good} ${limit.toFixed(0)} ${unit}`, yesNo(isMet(target))];
}

function yesNo(value: boolean): string {
  return value ? "yes" : "no";
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

export function printProfile(what: string, shares: readonly OpShare[], terminal: Terminal): void {
  const total = shares.reduce((sum, { secondsPerRun }) => sum + secondsPerRun, 0);
  terminal.heading(`${what}: ${milliseconds(total)} ms with a wait after each op`);
  terminal.table(
    ["op", "calls", "ms", "share"],
    shares.map(({ op, callsPerRun, secondsPerRun }) => [
      op,
      callsPerRun.toFixed(0),
      milliseconds(secondsPerRun),
      percent(secondsPerRun / total),
    ]),
  );
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}

function tenths(seconds: number): string {
  return (1000 * seconds).toFixed(1);
}

function milliseconds(seconds: number): string {
  return (1000 * seconds).toFixed(3);
}
