import type { Terminal } from "../../lib/cli/terminal.js";
import type { ProductDType } from "../../lib/dtype.js";
import type { Design } from "../peers/gpu-peer.js";
import type { Mode } from "./rival.js";
import type { Times } from "./turns.js";

/** Us beside one peer. Times in seconds, memory in bytes. */
export interface LayerRow {
  name: string;
  rival: Design;
  /** Of both sides' products. */
  dtype: ProductDType;
  mode: Mode;
  ours: Times;
  theirs: Times;
  /** Medians, ours / theirs. */
  ratio: number;
  /** Our time at the end of the row / at its beginning. */
  drift: number;
  /** Arithmetic of the products. */
  flops: number | null;
  peakBytes: { ours: number; theirs: number | null };
}

/** A comparison that could not be made, or not to its end: what it measured before is a row. */
export interface MissingRow {
  name: string;
  rival: Design;
  dtype: ProductDType;
  /** What is to blame: the time, the peer, or us; `disagrees`: one of the two computes something else. */
  kind: "time" | "peer" | "ours" | "disagrees";
  reason: string;
}

/** The ratio to quote: with the faster of what torch.compile makes, in each mode. */
export type Headline = Pick<LayerRow, "name" | "dtype" | "mode" | "rival" | "ratio">;

export interface LayerReport {
  device: string;
  commit: string | null;
  date: string;
  /** What each peer says about itself. */
  peers: Record<string, Readonly<Record<string, unknown>>>;
  /** Of a copy within the device's memory: read and written. */
  copyBytesPerSecond: number | null;
  headlines: Headline[];
  rows: LayerRow[];
  missing: MissingRow[];
}

const compilers: ReadonlySet<Design> = new Set(["compiled", "flex"]);

export function headlinesOf(rows: readonly LayerRow[]): Headline[] {
  const fastest = new Map<string, LayerRow>();
  for (const row of rows.filter(({ rival }) => compilers.has(rival))) {
    const key = `${row.name} ${row.dtype} ${row.mode}`;
    const other = fastest.get(key);
    if (!other || row.theirs.median < other.theirs.median) fastest.set(key, row);
  }
  return [...fastest.values()].map(({ name, dtype, mode, rival, ratio }) => ({
    ...{ name, dtype, mode, rival, ratio },
  }));
}

export function printLayers(report: LayerReport, terminal: Terminal): void {
  const { device, rows, missing, headlines, copyBytesPerSecond } = report;
  terminal.heading(device);
  if (rows.length > 0) {
    const header = [
      "layer",
      "with",
      "dtype",
      "mode",
      "ours us",
      "theirs us",
      "ratio",
      "TFLOP/s",
      "MB",
      "theirs",
    ];
    terminal.table([...header, "drift"], rows.map(cells));
  }
  if (headlines.length > 0) {
    terminal.heading("Beside the faster of what torch.compile makes");
    terminal.table(
      ["layer", "dtype", "mode", "with", "ours / theirs"],
      headlines.map(({ name, dtype, mode, rival, ratio }) => [name, dtype, mode, rival, ratio.toFixed(2)]),
    );
  }
  if (copyBytesPerSecond !== null) {
    terminal.pairs([["copy", `${(copyBytesPerSecond / 1e9).toFixed(0)} GB/s read and written`]]);
  }
  if (missing.length > 0) terminal.heading("Missing, or not complete");
  for (const { name, rival, dtype, reason } of missing)
    terminal.print(`  ${name} ${dtype} with ${rival}: ${reason}`);
}

function cells(row: LayerRow): string[] {
  const { name, rival, dtype, mode, ours, theirs, ratio, drift, flops, peakBytes } = row;
  return [
    ...[name, rival, dtype, mode, microseconds(ours), microseconds(theirs), ratio.toFixed(2)],
    flops === null ? "" : (flops / ours.median / 1e12).toFixed(1),
    megabytes(peakBytes.ours),
    peakBytes.theirs === null ? "" : megabytes(peakBytes.theirs),
    `${(100 * (drift - 1)).toFixed(1)} %`,
  ];
}

function microseconds({ median }: Times): string {
  return (1e6 * median).toFixed(1);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
