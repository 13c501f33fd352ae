// npm run bench: how fast the ops are beside what the machine can do, and what a training step costs.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { Terminal } from "../lib/cli/terminal.js";
import { parseUsage, UsageError } from "../lib/cli/usage.js";
import { openDevice } from "../lib/device.js";
import { parseConfig } from "../lib/train/config.js";
import { openRun } from "../lib/train/run.js";
import { measureComparisons } from "./compare.js";
import { measureGeneration } from "./generation.js";
import { MachinePeak } from "./machine-peak.js";
import { measureOps } from "./measure-ops.js";
import { fullSizes, opCases, quickSizes } from "./op-cases.js";
import { PeerComparisons } from "./peer-comparisons.js";
import { precisionComparisons } from "./precision.js";
import { profileOps } from "./profile.js";
import { describeRun, printProfile, printReport, type Report } from "./report.js";
import { measureStartup } from "./startup.js";
import { fullTasks, peerTasks, quickTasks } from "./tasks.js";
import { measureTraining } from "./training.js";

const help = `Usage: npm run bench -- [pattern] [options]

Measures what has the pattern in its name, by default all:
  grouped_gemm, gemm, combine, layer_norm, adam          beside what the machine can do
  moe_block, training_step "with PyTorch"                beside PyTorch, where that is installed
  moe_block forward "with tfjs-wasm"                     beside TensorFlow.js, where that is installed
  training_step bf16 "with f32"                          bf16 products beside float32
  quickstart training, quickstart generation             speed of the small model of npm start
  startup                                                from import to the first training step

  --json <file>  where to write the results; without it a complete run writes bench/results/<processor>.json
  --profile      shows instead which ops moe_block, training_step, quickstart training spend time in
  --quick        tiny sizes, few samples: does it run at all?`;

const quickstartTraining = "quickstart training";

/** Samples and sizes. */
const full = {
  ops: { sizes: fullSizes, rounds: 9, sampleSeconds: 0.04 },
  peakMilliseconds: 20,
  comparisons: { sizes: fullTasks, rounds: 5 },
  trainingSteps: 50,
  generation: { rounds: 3, tokens: 1000 },
  startups: 7,
};
const quick: typeof full = {
  ops: { sizes: quickSizes, rounds: 1, sampleSeconds: 0 },
  peakMilliseconds: 1,
  comparisons: { sizes: quickTasks, rounds: 1 },
  trainingSteps: 2,
  generation: { rounds: 1, tokens: 4 },
  startups: 1,
};

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
    await profile(positionals[0] ?? "", effort, terminal);
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
  const { threads } = device;
  const run = describeRun(device);
  const peak = new MachinePeak(device, effort.peakMilliseconds);
  const matches = (name: string): boolean => name.includes(pattern);
  const isWanted = ({ name, rival }: { name: string; rival: string }) => matches(`${name} with ${rival}`);
  const { sizes, rounds } = effort.comparisons;
  const cases = opCases(device, effort.ops.sizes).filter(({ name }) => matches(name));
  const tasks = peerTasks(device, sizes, threads).filter(isWanted);
  const others = precisionComparisons(sizes.training, threads).filter(isWanted);
  const [training, generation, startup] = [quickstartTraining, "quickstart generation", "startup"].map(
    matches,
  );
  if (cases.length + tasks.length + others.length === 0 && !training && !generation && !startup) {
    throw new UsageError(`nothing has "${pattern}" in its name`, "see --help");
  }
  const { sampleSeconds } = effort.ops;
  const threadCounts = [...new Set([1, threads])];
  const opRun = { device, peak, threads: threadCounts, rounds: effort.ops.rounds, sampleSeconds };
  const ops = await measureOps(cases, opRun);
  const peers = await PeerComparisons.open(device, tasks);
  const comparisons = await measureComparisons([...peers.comparisons, ...others], { peak, rounds }).finally(
    () => peers.end(),
  );
  device.setThreads(threads);
  return {
    ...run,
    ops,
    comparisons,
    missingPeers: [...peers.missing].map(({ name, install }) => ({ name, install })),
    training: training ? await measureTraining(effort.trainingSteps) : null,
    generation: generation ? await measureGeneration(peak, effort.generation) : [],
    startup: startup ? await measureStartup(effort.startups) : null,
  };
}

async function profile(pattern: string, effort: typeof full, terminal: Terminal): Promise<void> {
  const device = openDevice();
  const { sizes, rounds } = effort.comparisons;
  const tasks = peerTasks(device, sizes, device.threads);
  const runs = new Map(tasks.map(({ name, workload, topK }) => [name, () => workload.run(topK)]));
  for (const [name, run] of runs) {
    if (name.includes(pattern)) printProfile(name, await profileOps(device, rounds, run), terminal);
  }
  if (!quickstartTraining.includes(pattern)) return;
  const quickstart = await openRun(parseConfig({ train: { steps: effort.trainingSteps + 1 } }));
  let steps = 0;
  const step = () => quickstart.trainer.train({ steps: (steps += 1) });
  printProfile(quickstartTraining, await profileOps(device, effort.trainingSteps, step), terminal);
  await quickstart.close();
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

// Peers are stopped processes: they end only with an exit that this process takes part in.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

main(process.argv.slice(2)).catch((error: unknown) => {
  const known = error instanceof UsageError;
  process.stderr.write(`\n${known ? `error: ${error.message}` : String((error as Error).stack)}\n`);
  process.exitCode = known ? 2 : 1;
});
