// What scripts/gpu-check.mjs makes of the records that its parts leave.
import type { Terminal } from "../../lib/cli/terminal.js";
import { type Bar, barsOf } from "./bars.js";
import type { LayerReport } from "./layer-report.js";
import type { GpuState } from "./machine.js";
import type { KernelReport } from "./measure-kernels.js";

/** What one part of a check leaves. */
export interface PartRecord {
  part: string;
  status: "passed" | "failed" | "skipped";
  /** In one line: what it did, or why it failed or did not run. */
  summary: string;
  seconds: number;
  date: string;
  /** What was checked: the commit, null outside of git, and a digest of the sources. */
  commit: string | null;
  sources: string;
  /** Of what it ran with. */
  versions: Record<string, string>;
  emulated: boolean;
  quick: boolean;
  /** While it ran, every few seconds. */
  gpu: GpuState[];
  results: unknown;
}

/** A whole check. */
export interface GpuReport {
  device: string;
  emulated: boolean;
  quick: boolean;
  date: string;
  commit: string | null;
  versions: Record<string, string>;
  bars: Bar[];
  /** What is wrong with the whole: parts missing, or of other sources than the rest. */
  remarks: string[];
  parts: PartRecord[];
}

/** Records that do not belong into one report. */
export class MixedGpusError extends Error {}

/**
 * @param records Of a part that ran several times the latest counts.
 * @param order Names of all parts.
 * @throws {MixedGpusError} if they ran on GPUs with different names.
 */
export function mergeRecords(records: readonly PartRecord[], order: readonly string[]): GpuReport {
  const latestFirst = records.toSorted((a, b) => b.date.localeCompare(a.date));
  const parts = order.flatMap((name) => latestFirst.find(({ part }) => part === name) ?? []);
  const latest = latestFirst[0];
  if (!latest) throw new Error("no part has run yet");
  const emulated = parts.some((part) => part.emulated);
  const quick = parts.some((part) => part.quick);
  const missing = order.filter((name) => !parts.some(({ part }) => part === name));
  const others = parts.filter(({ sources }) => sources !== latest.sources).map(({ part }) => part);
  const name = gpuNameOf(parts);
  return {
    device: emulated ? "emulated GPU" : (name ?? "unknown GPU"),
    ...{ emulated, quick, date: latest.date, commit: latest.commit, versions: latest.versions },
    // Other sizes, or another machine, say nothing about them.
    bars: emulated || quick ? barsOf(undefined, undefined) : barsOf(kernelsOf(parts), layerSecondsOf(parts)),
    remarks: [
      ...(missing.length > 0 ? [`did not run: ${missing.join(", ")}`] : []),
      ...(others.length > 0 ? [`ran on other sources than ${latest.part}: ${others.join(", ")}`] : []),
    ],
    parts,
  };
}

/** @throws {MixedGpusError} if there are several. */
export function gpuNameOf(parts: readonly Pick<PartRecord, "gpu">[]): string | undefined {
  const names = new Set(parts.flatMap(({ gpu }) => gpu.flatMap(({ name }) => (name ? [String(name)] : []))));
  if (names.size > 1)
    throw new MixedGpusError(
      `records of different GPUs: ${[...names].join(" and ")}. Pass another --out or --from`,
    );
  return [...names][0];
}

/** `nvidia-h100-80gb-hbm3` */
export function deviceSlug(device: string): string {
  return device
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
}

export function printReport(report: GpuReport, terminal: Terminal): void {
  const { device, commit, versions, parts, bars, remarks } = report;
  terminal.heading(
    `${device}${report.quick ? ", quick sizes: no benchmark" : ""}, commit ${commit ?? "unknown"}`,
  );
  const states = parts.flatMap(({ gpu }) => gpu);
  terminal.pairs([
    ...Object.entries(versions),
    ...(states.length > 0 ? [["GPU", rangeOf(states)] as const] : []),
  ]);
  terminal.heading("Parts");
  for (const { part, status, seconds, summary } of parts)
    terminal.print(`  ${part.padEnd(9)} ${status.padEnd(8)} ${seconds.toFixed(0).padStart(4)} s  ${summary}`);
  for (const remark of remarks) terminal.print(`  ${remark}`);
  const gaps = gapsOf(parts);
  if (gaps.length > 0) terminal.heading("Missing, or not complete");
  for (const gap of gaps) terminal.print(`  ${gap}`);
  terminal.heading("Bars, for an H100");
  const answer = { true: "yes", false: "no", null: "not measured" };
  for (const { name, measured, limit, isMet } of bars) {
    terminal.print(
      `  ${answer[`${isMet}`].padEnd(12)}  ${name}: ${measured === "" ? "" : `${measured}, `}${limit}`,
    );
  }
}

function kernelsOf(parts: readonly PartRecord[]): KernelReport | undefined {
  return (parts.find(({ part }) => part === "kernels")?.results ?? undefined) as KernelReport | undefined;
}

function layersOf(parts: readonly PartRecord[]): LayerReport | undefined {
  return (parts.find(({ part }) => part === "layers")?.results ?? undefined) as LayerReport | undefined;
}

/** What the benchmarks lack, and why. */
function gapsOf(parts: readonly PartRecord[]): string[] {
  const { failures = [], missing = [] } = kernelsOf(parts) ?? {};
  const noTime = missing.map((each) => ({ ...each, reason: "it was not measured before the end" }));
  return [
    ...[...failures, ...noTime].map(
      ({ size, family, dtype, reason }) => `kernels: ${size} ${family} ${dtype}: ${reason}`,
    ),
    ...(layersOf(parts)?.missing ?? []).map(
      ({ name, dtype, rival, reason }) => `layers: ${name} ${dtype} with ${rival}: ${reason}`,
    ),
  ];
}

/** Of our expert layer at the published size: without gaps between kernels, if a peer could be timed like that too. */
function layerSecondsOf(parts: readonly PartRecord[]): number | undefined {
  const rows = layersOf(parts)?.rows.filter(
    ({ name, dtype }) => name === "moe_block forward+backward paper k=8" && dtype === "bf16",
  );
  return (rows?.find(({ mode }) => mode === "device") ?? rows?.[0])?.ours.median;
}

/** Clocks, power and temperature between their least and their most. */
function rangeOf(states: readonly GpuState[]): string {
  const range = (field: string, unit: string): string => {
    const values = states.flatMap((state) => (typeof state[field] === "number" ? [state[field]] : []));
    return values.length === 0 ? "" : `${Math.min(...values)} to ${Math.max(...values)} ${unit}`;
  };
  const driver = states[0]?.["driver_version"];
  return [
    `driver ${driver ?? "unknown"}`,
    ...[range("clocks.sm", "MHz"), range("power.draw", "W"), range("temperature.gpu", "°C")],
  ]
    .filter((text) => text !== "")
    .join(", ");
}
