// npm run bench: how fast the ops are beside what the machine can do, and what a training step costs.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { Terminal } from "../lib/cli/terminal.js";
import { parseUsage, UsageError } from "../lib/cli/usage.js";
import { openDevice } from "../lib/device.js";
import { MachinePeak } from "./machine-peak.js";
import { measureOps } from "./measure-ops.js";
import { fullSizes, opCases, quickSizes } from "./op-cases.js";
import { profileTraining } from "./profile.js";
import { describeRun, printProfile, printReport, type Report } from "./report.js";
import { measureTraining } from "./training.js";

const help = `Usage: npm run bench -- [pattern] [options]

Measures what has the pattern in its name, by default all: ops (grouped_gemm, gemm, combine, ...) and training.

  --json <file>  where to write the results; without it a complete run writes bench/results/<processor>.json
  --profile      shows instead which ops a training step spends its time in
  --quick        tiny sizes, few samples: does it run at all?`;

/** Samples and sizes. */
const full = { sizes: fullSizes, rounds: 9, sampleSeconds: 0.04, peakMilliseconds: 20, steps: 50 };
const quick: typeof full = { sizes: quickSizes, rounds: 1, sampleSeconds: 0, peakMilliseconds: 1, steps: 2 };

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      json: { type: "string" },
      profile: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
    1,
  );
  const terminal = new Terminal(process.stdout);
  const effort = values.quick ? quick : full;
  if (values.help) {
    terminal.print(help);
  } else if (values.profile) {
    printProfile(await profileTraining(effort.steps), terminal);
  } else {
    const report = await measure(positionals[0] ?? "", effort);
    printReport(report, terminal);
    const isComplete = positionals.length === 0 && !values.quick;
    const file = values.json ?? (isComplete ? resultFile(report) : undefined);
    if (file !== undefined) write(file, report);
  }
}

async function measure(pattern: string, effort: typeof full): Promise<Report> {
  const device = openDevice();
  const threads = device.threads;
  const cases = opCases(device, effort.sizes).filter(({ name }) => name.includes(pattern));
  const withTraining = "training".includes(pattern);
  if (cases.length === 0 && !withTraining) {
    throw new UsageError(`nothing has "${pattern}" in its name`, "see --help");
  }
  const run = describeRun(device);
  const ops = await measureOps(cases, {
    device,
    peak: new MachinePeak(device, effort.peakMilliseconds),
    threads: [...new Set([1, threads])],
    rounds: effort.rounds,
    sampleSeconds: effort.sampleSeconds,
  });
  return { ...run, ops, training: withTraining ? await measureTraining(effort.steps) : null };
}

function resultFile({ machine }: Report): string {
  const slug = machine.cpu
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
  return join(import.meta.dirname, "results", `${slug}.json`);
}

function write(file: string, report: Report): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(report, null, 1)}\n`);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const known = error instanceof UsageError;
  process.stderr.write(`\n${known ? `error: ${error.message}` : String((error as Error).stack)}\n`);
  process.exitCode = known ? 2 : 1;
});
