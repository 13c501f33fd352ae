// npm run gpu-check: tests, sanitizers and benchmarks on a machine with an NVIDIA GPU. Needs Node, nvcc, cmake, ninja or
// make, and python3 with PyTorch for the peers; no network, no npm. See "On a GPU" in README.md.
import { appendFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { PassThrough } from "node:stream";
import { parseArgs } from "node:util";
import { capture, CommandError, main, root } from "./command.mjs";
import { addToolkitToPath, gpuName, GpuWatch, requireGpu } from "./gpu-check/machine.mjs";
import { forgetResults, partNames, parts, resultsOf } from "./gpu-check/parts.mjs";
import { Records, writeJson } from "./gpu-check/records.mjs";
import { hashFiles } from "./stamp.mjs";
import "./typescript.mjs";

const usage = `Usage: node scripts/gpu-check.mjs [part ...] [options]

Parts, by default all, in this order:
  build     the addon for the GPU that is here
  test      op cases, gradients, golden vectors and training
  replay    training from one seed three times, bit for bit
  kernels   how fast each kernel is
  sanitize  memcheck, racecheck, initcheck and synccheck of all ops
  layers    layers and whole steps beside PyTorch
  report    bench/results/<device>.json and a short table of all that is known

  --out <folder>      for report.json, which holds what is known at any time, and gpu-check.log: build/gpu-check
  --seconds <number>  for everything; each part but the last gets half of what is left. Without: 9 minutes a part
  --from <file>       a report.json of another run, whose parts are taken over unless they ran again; may be repeated
  --emulated          the emulated GPU instead: does the script itself work? No benchmark, no sanitizer
  --quick             tiny sizes, a part of the tests; nothing goes to bench/results/`;

const longestSeconds = 530;
const fewestSeconds = 10;
/** How often report.json is brought up to date, and the time that the last report takes. */
const savingMs = 1000;
const reportSeconds = 5;

/** What is said of the sources and the machine in each record. */
async function describeRun() {
  const { toolVersions } = await import("../bench/cuda/machine.ts");
  const args = ["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"];
  const { status, output } = capture("git", args);
  const folders = ["CMakeLists.txt", "ops", "cpu", "cuda", "binding", "lib", "bench", "test"];
  return {
    commit: status === 0 ? output.trim() : null,
    sources: hashFiles(folders).slice(0, 16),
    versions: toolVersions(),
  };
}

/** Runs a part. Its record is there from the beginning, with what it has found out so far. */
async function runPart(name, options, common, records) {
  const { log, emulated, quick } = options;
  say(log, `\n=== ${name}, ${Math.round(options.seconds)} s at most`);
  const watch = emulated ? undefined : new GpuWatch();
  const begin = performance.now();
  forgetResults(name);
  const save = (outcome) => {
    const seconds = (performance.now() - begin) / 1000;
    const date = new Date().toISOString();
    const gpu = watch?.states ?? [];
    records.save({ part: name, ...outcome, seconds, date, ...common, emulated, quick, gpu });
  };
  const saveUnfinished = () =>
    save({ status: "failed", summary: "it was ended before it was done", results: resultsOf(name) });
  saveUnfinished();
  const timer = setInterval(saveUnfinished, savingMs);
  process.on("exit", saveUnfinished);
  const outcome = await parts[name](options).catch((error) => {
    if (!(error instanceof CommandError)) say(log, error.stack);
    return { status: "failed", summary: error.message, results: resultsOf(name) };
  });
  clearInterval(timer);
  process.off("exit", saveUnfinished);
  save(outcome);
  await watch?.end();
  save(outcome); // with the last look
  say(log, `${name}: ${outcome.status}, ${outcome.summary}`);
  return outcome.status !== "failed";
}

function say(log, text) {
  console.log(text);
  appendFileSync(log, `${text}\n`);
}

async function report(options, records) {
  const { deviceSlug, printReport } = await import("../bench/cuda/report.ts");
  const { Terminal } = await import("../lib/cli/terminal.ts");
  const merged = records.report();
  if (merged === null) throw new CommandError("No part has run yet. Run: node scripts/gpu-check.mjs");
  const isResult = !options.emulated && !options.quick;
  const file = isResult ? join(root, "bench", "results", `${deviceSlug(merged.device)}.json`) : records.file;
  writeJson(file, merged, 1);
  const table = new PassThrough({ encoding: "utf8" });
  printReport(merged, new Terminal(table));
  say(options.log, `${table.read()}\n${relative(root, file)}`);
  return merged.parts.every(({ status }) => status !== "failed");
}

/** @throws {CommandError} before anything runs, if records are of several GPUs, or of another one than `here`. */
async function openRecords(options, here) {
  const { gpuNameOf, mergeRecords, MixedGpusError } = await import("../bench/cuda/report.ts");
  const records = new Records(options, (all) => mergeRecords(all, partNames));
  try {
    gpuNameOf([...(records.report()?.parts ?? []), { gpu: here ? [{ name: here }] : [] }]);
  } catch (error) {
    throw error instanceof MixedGpusError ? new CommandError(error.message) : error;
  }
  return records;
}

/** What a part may take of the time that is left, with others behind it or not. */
function secondsOf(left, isLast) {
  return Math.min(longestSeconds, isLast ? left : left / 2);
}

await main(async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ...Object.fromEntries(["emulated", "quick", "help"].map((name) => [name, { type: "boolean" }])),
      out: { type: "string", default: join(root, "build", "gpu-check") },
      seconds: { type: "string", default: "Infinity" },
      from: { type: "string", multiple: true, default: [] },
    },
  });
  if (values.help) return console.log(usage);
  const known = [...partNames, "report"];
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown) throw new CommandError(`There is no part "${unknown}".\n\n${usage}`);
  const seconds = Number(values.seconds);
  if (!(seconds >= 0))
    throw new CommandError(`--seconds takes a number, not "${values.seconds}".\n\n${usage}`);
  const end = performance.now() + 1000 * (seconds - reportSeconds);
  const wanted = partNames.filter((name) => positionals.length === 0 || positionals.includes(name));
  const out = resolve(values.out);
  const options = {
    ...{ out, log: join(out, "gpu-check.log"), from: values.from.map((file) => resolve(file)) },
    ...{ emulated: values.emulated === true, quick: values.quick === true },
  };
  addToolkitToPath();
  if (!options.emulated && wanted.length > 0) requireGpu();
  const records = await openRecords(
    options,
    options.emulated || wanted.length === 0 ? undefined : await gpuName(),
  );
  const common = wanted.length > 0 ? await describeRun() : {};
  const good = [];
  for (const [i, name] of wanted.entries()) {
    const left = (end - performance.now()) / 1000;
    if (left < fewestSeconds) {
      say(options.log, `\n=== ${name}: there is no time left`);
      good.push(false);
    } else {
      const isLast = i === wanted.length - 1;
      good.push(await runPart(name, { ...options, seconds: secondsOf(left, isLast) }, common, records));
    }
  }
  if (positionals.length === 0 || positionals.includes("report")) good.push(await report(options, records));
  process.exitCode = good.every(Boolean) ? 0 : 1;
});
