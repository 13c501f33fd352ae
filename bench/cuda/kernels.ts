// node --import ./scripts/typescript.mjs bench/cuda/kernels.ts --json file [--quick]: how long each kernel takes on the
// GPU, beside the least that its arithmetic and its bytes take at the rates measured in the same run.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";

import { Terminal } from "../../lib/cli/terminal.js";
import { fullSizes, kernelFamilies, quickSizes } from "./kernel-cases.js";
import {
  fullEffort,
  type KernelReport,
  type KernelResult,
  measureKernels,
  quickEffort,
} from "./measure-kernels.js";

const { values } = parseArgs({
  options: { json: { type: "string" }, quick: { type: "boolean", default: false } },
});
const report = await measureKernels(
  kernelFamilies(values.quick ? quickSizes : fullSizes),
  values.quick ? quickEffort : fullEffort,
);
print(report, new Terminal(process.stdout));
if (values.json !== undefined) {
  mkdirSync(dirname(values.json), { recursive: true });
  writeFileSync(values.json, `${JSON.stringify(report)}\n`);
}

function print({ device, rates, rows, drift, failures }: KernelReport, terminal: Terminal): void {
  terminal.heading(device);
  const header = ["kernel", "size", "dtype", "us", "p10", "p90", "queued", "rate", "floor us", "of floor"];
  terminal.table(header, rows.map(cells));
  const gigabytes = (rates.copyBytesPerSecond / 1e9).toFixed(0);
  const change = (100 * (drift.last / drift.first - 1)).toFixed(1);
  terminal.pairs([
    ["copy", `${gigabytes} GB/s`],
    ...Object.entries(rates.flopsPerSecond).map(
      ([dtype, rate]) => [`fastest ${dtype} product`, teraflops(rate)] as const,
    ),
    ["drift", `${drift.name} at the end of the run: ${change} %`],
    ...failures.map(({ size, dtype, reason }) => [`not measured: ${size} ${dtype}`, reason] as const),
  ]);
}

function cells(row: KernelResult): string[] {
  const { name, size, dtype, seconds, floorSeconds, bound } = row;
  const rate =
    bound === "memory"
      ? `${(row.bytes / seconds.median / 1e9).toFixed(0)} GB/s`
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
    ...[microseconds(row.pipelineSeconds), rate, microseconds(floorSeconds)],
    `${((100 * floorSeconds) / seconds.median).toFixed(0)} %`,
  ];
}

function teraflops(flopsPerSecond: number): string {
  return `${(flopsPerSecond / 1e12).toPrecision(3)} TFLOP/s`;
}

function microseconds(seconds: number): string {
  return (1e6 * seconds).toFixed(1);
}
