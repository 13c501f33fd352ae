// The parts of scripts/gpu-check.mjs. Each returns { status, summary, results } or throws an error that says what to do.
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CommandError, root } from "../command.mjs";
import { runFor } from "./child.mjs";
import { requireTool, requireTorch } from "./machine.mjs";

const longestSeconds = 530;
/** After which no comparison of layers begins. */
const layerSeconds = 470;
const quickLayerSeconds = 30;
/** Of each tool: as long as it calls ops, and until it is ended. */
const sanitizer = { seconds: 85, longestSeconds: 130 };

function addonOf({ emulated }) {
  const names = emulated ? ["Release", "hyperrouter-emulated.node"] : ["cuda", "Release", "hyperrouter.node"];
  const addon = join(root, "build", ...names);
  if (existsSync(addon)) return addon;
  throw new CommandError(`${addon} is missing. Run the part "build" first`);
}

const node = (seconds, log, args, env) => runFor(seconds, log, process.execPath, args, env);
const typescript = ["--import", "./scripts/typescript.mjs"];
const finished = (status, summary, results = null) => ({
  status: status === 0 ? "passed" : "failed",
  summary,
  results,
});
const whyEnded = ({ status, inTime }, seconds) =>
  inTime ? `ended with status ${status}` : `was ended after ${seconds} s`;

const benchmarkEnded = (run) => `the benchmark ${whyEnded(run, longestSeconds)}`;

/** Runs a TypeScript program with the addon. @returns how it ended, and what it wrote to its --json file. */
async function runProgram(options, name, program, args = []) {
  const file = join(options.folder, `${name}.results.json`);
  rmSync(file, { force: true });
  const log = join(options.folder, `${name}.log`);
  const env = { HYPERROUTER_BINDING: addonOf(options) };
  const all = [...typescript, program, "--json", file, ...(options.quick ? ["--quick"] : []), ...args];
  const run = await node(longestSeconds, log, all, env);
  return { ...run, results: existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null };
}

async function build({ emulated, folder }) {
  requireTool("cmake");
  if (!emulated) requireTool("nvcc");
  const kind = emulated ? "--emulated" : "--cuda";
  const run = await node(longestSeconds, join(folder, "build.log"), ["scripts/build-native.mjs", kind]);
  if (run.status !== 0)
    return finished(1, `the build ${whyEnded(run, longestSeconds)}; see build/gpu-check/build.log`);
  return finished(0, /^Built .*/m.exec(run.output)?.[0] ?? "up to date");
}

/** Op cases run three times there, unaligned the third time, and must give the same bits. */
async function test(options) {
  addonOf(options);
  const { emulated, quick, folder } = options;
  const file = join(folder, "jest.json");
  rmSync(file, { force: true });
  const project = emulated ? "emulated" : "cuda";
  const args = [
    "scripts/test.mjs",
    "--no-setup",
    "--selectProjects",
    project,
    "--json",
    `--outputFile=${file}`,
  ];
  const run = await node(longestSeconds, join(folder, "test.log"), [
    ...args,
    ...(quick ? ["test/cuda/router"] : []),
  ]);
  if (!existsSync(file))
    return finished(1, `jest ${whyEnded(run, longestSeconds)}; see build/gpu-check/test.log`);
  const { numPassedTests, numFailedTests, numRuntimeErrorTestSuites, testResults } = JSON.parse(
    readFileSync(file, "utf8"),
  );
  const failed = testResults
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === "failed")
    .map(({ fullName }) => fullName);
  const broken = numRuntimeErrorTestSuites > 0 ? `, ${numRuntimeErrorTestSuites} files did not run` : "";
  return finished(
    numPassedTests > 0 ? run.status : 1,
    `${numPassedTests} tests passed, ${numFailedTests} failed${broken}`,
    { passed: numPassedTests, failed },
  );
}

async function replay(options) {
  const run = await runProgram(options, "replay", "bench/cuda/replay.ts");
  const lines = (run.results?.replays ?? []).map(
    ({ dtype, isSame }) => `${dtype} ${isSame ? "same" : "OTHER"} bits`,
  );
  return finished(run.status, lines.join(", ") || `the replay ${whyEnded(run, longestSeconds)}`, run.results);
}

/** One process for each tool. Emulated, the calls run without a tool: the emulator looks on by itself. */
async function sanitize(options) {
  const { parseSanitizer, sanitizerTools } = await import("../../bench/cuda/sanitizer.ts");
  const seconds = options.quick ? 5 : sanitizer.seconds;
  const calls = ["test/cuda/sanitized-calls.ts", "--seconds", String(seconds)];
  const env = { HYPERROUTER_BINDING: addonOf(options) };
  if (options.emulated) {
    const log = join(options.folder, "sanitize.log");
    const run = await node(sanitizer.longestSeconds, log, [...typescript, ...calls], env);
    if (run.status !== 0) return finished(1, `the calls ${whyEnded(run, sanitizer.longestSeconds)}`);
    const done = run.output.trim().split("\n").at(-1);
    return {
      status: "skipped",
      summary: `compute-sanitizer needs a GPU; ${done} ran without it`,
      results: null,
    };
  }
  requireTool("compute-sanitizer");
  const tools = {};
  for (const tool of sanitizerTools)
    tools[tool] = await sanitizeWith(tool, calls, options, env, parseSanitizer);
  const lines = Object.entries(tools).map(([tool, { summary }]) => `${tool}: ${summary}`);
  return finished(Object.values(tools).every(({ passed }) => passed) ? 0 : 1, lines.join("; "), tools);
}

async function sanitizeWith(tool, calls, { folder }, env, parse) {
  const file = join(folder, `${tool}.results.json`);
  rmSync(file, { force: true });
  const args = ["--tool", tool, process.execPath, ...typescript, ...calls, "--json", file];
  const run = await runFor(
    sanitizer.longestSeconds,
    join(folder, `${tool}.log`),
    "compute-sanitizer",
    args,
    env,
  );
  const findings = parse(run.output);
  const calledOps = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
  if (!findings || !calledOps || !run.inTime)
    return {
      passed: false,
      summary: `${whyEnded(run, sanitizer.longestSeconds)}, no result`,
      findings,
      calledOps,
    };
  const { errors, warnings } = findings;
  const of = `${calledOps.done} of ${calledOps.planned} cases of ${calledOps.ops} ops`;
  const summary = `${errors} errors${warnings ? `, ${warnings} warnings` : ""} in ${of}`;
  return { passed: errors === 0 && run.status === 0, summary, findings, calledOps };
}

async function kernels(options) {
  const run = await runProgram(options, "kernels", "bench/cuda/kernels.ts");
  if (run.status !== 0 || !run.results) return finished(1, benchmarkEnded(run), run.results);
  const { rows, failures, rates } = run.results;
  const copy = `copy ${(rates.copyBytesPerSecond / 1e9).toFixed(0)} GB/s`;
  const lost = failures.length > 0 ? `, ${failures.length} families were not measured` : "";
  return finished(failures.length, `${rows.length} kernels, ${copy}${lost}`, run.results);
}

/** Without a GPU peers compute on the CPU, if there are any. */
async function layers(options) {
  if (!options.emulated) requireTorch();
  const seconds = ["--seconds", String(options.quick ? quickLayerSeconds : layerSeconds)];
  const peers = options.emulated ? ["--peers", "cpu"] : [];
  const run = await runProgram(options, "layers", "bench/cuda/layers.ts", [...seconds, ...peers]);
  if (run.status !== 0 || !run.results) return finished(1, benchmarkEnded(run), run.results);
  const { rows, missing } = run.results;
  const lost = missing.length > 0 ? `, ${missing.length} could not be made` : "";
  const isEmpty = rows.length === 0 && !options.emulated;
  return finished(isEmpty ? 1 : 0, `${rows.length} comparisons${lost}`, run.results);
}

export const parts = { build, test, replay, sanitize, kernels, layers };
export const partNames = Object.keys(parts);
