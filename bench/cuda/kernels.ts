// node --import ./scripts/typescript.mjs bench/cuda/kernels.ts --json file [options]: how long each kernel takes on the GPU,
// beside the least that its arithmetic and its bytes take at the rates measured in the same run. The file always holds
// what is known so far. Options: --seconds <for everything>; --resume measures only what the file lacks; --quick.
import { existsSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { Terminal } from "../../lib/cli/terminal.js";
import { writeResults } from "../results-file.js";
import { fullSizes, kernelFamilies, quickSizes } from "./kernel-cases.js";
import {
  fullEffort,
  type KernelReport,
  type KernelResult,
  measureKernels,
  quickEffort,
} from "./measure-kernels.js";

const { values } = parseArgs({
  options: {
    json: { type: "string" },
    seconds: { type: "string", default: "480" },
    resume: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
  },
});
const { json: file } = values;
const unknown = "not measured";
const terminal = new Terminal(process.stdout);
const [sizes, effort] = values.quick ? [quickSizes, quickEffort] : [fullSizes, fullEffort];
const report = await measureKernels(kernelFamilies(sizes), effort, {
  seconds: Number(values.seconds),
  previous:
    values.resume && file !== undefined && existsSync(file)
      ? (JSON.parse(readFileSync(file, "utf8")) as KernelReport)
      : undefined,
  progress: async (known) => {
    const { running, rows } = known;
    terminal.print(
      running === null
        ? `${rows.length} kernels, ${rows.at(-1)?.samples.device.length ?? 0} samples of the last`
        : `${running.size} ${running.family} ${running.dtype}`,
    );
    if (file !== undefined) await writeResults(file, known);
  },
});
print(report);

function print({ device, rates, rows, drift, failures, missing }: KernelReport): void {
  terminal.heading(device);
  const header = ["kernel", "size", "dtype", "us", "p10", "p90", "queued", "rate", "floor us", "of floor"];
  terminal.table(header, rows.map(cells));
  terminal.pairs([
    ["copy", rates.copyBytesPerSecond === 0 ? unknown : gigabytes(rates.copyBytesPerSecond)],
    ...Object.entries(rates.flopsPerSecond).map(
      ([dtype, rate]) => [`fastest ${dtype} product`, rate === 0 ? unknown : teraflops(rate)] as const,
    ),
    ...(drift ? [["drift", `${drift.name} at the end of the run: ${changeOf(drift)} %`] as const] : []),
  ]);
  for (const { size, family, dtype, reason } of failures)
    terminal.print(`  failed: ${size} ${family} ${dtype}: ${reason}`);
  for (const { size, family, dtype } of missing)
    terminal.print(`  missing: ${size} ${family} ${dtype}: there was no time left`);
  for (const { name, size, dtype, samples } of rows)
    if (samples.device.length < effort.rounds)
      terminal.print(`  ${size} ${name} ${dtype}: ${samples.device.length} of ${effort.rounds} samples`);
}

function changeOf({ first, last }: NonNullable<KernelReport["drift"]>): string {
  return (100 * (last / first - 1)).toFixed(1);
}

function cells(row: KernelResult): string[] {
  const { name, size, dtype, seconds, floorSeconds, bound } = row;
  const rate =
    bound === "memory" || row.flops === 0
      ? gigabytes(row.bytes / seconds.median)
      : teraflops(row.flops / seconds.median);
  return [
    ...[
      name,
      size,
      dtype,
      microseconds(seconds.median),
      microseconds(seconds.p10),
      microseconds(seconds.p90),
    ],
    ...[microseconds(row.pipelineSeconds), rate],
    ...(floorSeconds === null
      ? [unknown, unknown]
      : [microseconds(floorSeconds), `${((100 * floorSeconds) / seconds.median).toFixed(0)} %`]),
  ];
}

function gigabytes(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e9).toFixed(0)} GB/s`;
}

function teraflops(flopsPerSecond: number): string {
  return `${(flopsPerSecond / 1e12).toPrecision(3)} TFLOP/s`;
}

function microseconds(seconds: number): string {
  return (1e6 * seconds).toFixed(1);
}
