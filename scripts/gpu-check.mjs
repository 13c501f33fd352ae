// npm run gpu-check: tests, sanitizers and benchmarks on a machine with an NVIDIA GPU. Needs Node, nvcc, cmake, ninja or
// make, and python3 with PyTorch for the peers; no network, no npm. See "On a GPU" in README.md.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { capture, CommandError, main, root } from "./command.mjs";
import { partNames, parts } from "./gpu-check/parts.mjs";
import { addToolkitToPath, GpuWatch, requireGpu } from "./gpu-check/machine.mjs";
import { hashFiles } from "./stamp.mjs";
import "./typescript.mjs";

const usage = `Usage: node scripts/gpu-check.mjs [part ...] [--emulated] [--quick]

Parts, by default all; each ends within 9 minutes and leaves build/gpu-check/<part>.json:
  build     the addon for the GPU that is here
  test      op cases, gradients, golden vectors and training
  replay    training from one seed three times, bit for bit
  sanitize  memcheck, racecheck, initcheck and synccheck of all ops
  kernels   how fast each kernel is
  layers    layers and whole steps beside PyTorch
  report    puts them together in bench/results/<device>.json and prints a short table

  --emulated  the emulated GPU instead: does the script itself work? No benchmark, no sanitizer
  --quick     tiny sizes, a part of the tests; nothing goes to bench/results/`;

const folder = join(root, "build", "gpu-check");

function describeSources() {
  const { status, output } = capture("git", [
    "describe",
    "--always",
    "--dirty",
    "--abbrev=12",
    "--exclude=*",
  ]);
  const folders = ["CMakeLists.txt", "ops", "cpu", "cuda", "binding", "lib", "bench", "test"];
  return { commit: status === 0 ? output.trim() : null, sources: hashFiles(folders).slice(0, 16) };
}

/** Runs a part and leaves its record, whatever becomes of it. */
async function runPart(name, options, sources) {
  console.log(`\n=== ${name}`);
  const watch = options.emulated ? undefined : new GpuWatch();
  const begin = performance.now();
  const outcome = await parts[name]({ ...options, folder }).catch((error) => {
    if (!(error instanceof CommandError)) console.error(error);
    return { status: "failed", summary: error.message, results: null };
  });
  const record = {
    part: name,
    ...outcome,
    seconds: (performance.now() - begin) / 1000,
    date: new Date().toISOString(),
    ...sources,
    ...options,
    gpu: (await watch?.end()) ?? [],
  };
  writeFileSync(join(folder, `${name}.json`), `${JSON.stringify(record)}\n`);
  console.log(`${name}: ${record.status}, ${record.summary}`);
  return record.status !== "failed";
}

async function report(options) {
  const { deviceSlug, mergeRecords, printReport } = await import("../bench/cuda/report.ts");
  const { toolVersions } = await import("../bench/cuda/machine.ts");
  const { Terminal } = await import("../lib/cli/terminal.ts");
  const records = partNames
    .filter((name) => readdirSync(folder).includes(`${name}.json`))
    .map((name) => JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8")))
    .filter(({ emulated, quick }) => emulated === options.emulated && quick === options.quick);
  if (records.length === 0) throw new CommandError("No part has run yet. Run: node scripts/gpu-check.mjs");
  const merged = mergeRecords(records, partNames, toolVersions());
  const isResult = !options.emulated && !options.quick;
  const file = isResult
    ? join(root, "bench", "results", `${deviceSlug(merged.device)}.json`)
    : join(folder, "report.json");
  writeFileSync(file, `${JSON.stringify(merged, null, 1)}\n`);
  printReport(merged, new Terminal(process.stdout));
  console.log(`\n${relative(root, file)}`);
  return merged.parts.every(({ status }) => status !== "failed");
}

await main(async () => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: Object.fromEntries(["emulated", "quick", "help"].map((name) => [name, { type: "boolean" }])),
  });
  if (values.help) return console.log(usage);
  const known = [...partNames, "report"];
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown) throw new CommandError(`There is no part "${unknown}".\n\n${usage}`);
  const wanted = positionals.length > 0 ? known.filter((name) => positionals.includes(name)) : known;
  const options = { emulated: values.emulated === true, quick: values.quick === true };
  mkdirSync(folder, { recursive: true });
  addToolkitToPath();
  if (!options.emulated) requireGpu();
  const sources = describeSources();
  const good = [];
  for (const name of wanted)
    good.push(await (name === "report" ? report(options) : runPart(name, options, sources)));
  process.exitCode = good.every(Boolean) ? 0 : 1;
});
