// The parts of scripts/gpu-check.mjs, in their order: what others need first, then what is worth most. Each takes
// `options.seconds` at most and returns { status, summary, results } or throws an error that says what to do. Until
// then resultsOf() knows what there is.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { capture, CommandError, root } from "../command.mjs";
import { forEachParallel } from "../parallel.mjs";
import { runFor } from "./child.mjs";
import { requireTool, requireTorch } from "./machine.mjs";
import { readJson, writeJson } from "./records.mjs";

/** Where the programs of the parts keep their results, and compilers what they have made. */
const folder = join(root, "build", "gpu-check");
/** Nothing that works on a GPU is silent for so long. */
const quietSecondsOf = ({ emulated }) => (emulated ? {} : { quietSeconds: 60 });
/** What a benchmark needs to start and to end, besides its measurements. */
const startSeconds = 20;
/** Of each tool: as long as it calls ops, and until it is ended. */
const sanitizer = { seconds: 85, longestSeconds: 130 };
/** How often to go on with the kernels after one has ended the program. */
const mostRestarts = 5;

const resultsFile = (name) => join(folder, `${name}.results.json`);
const testLines = join(folder, "test.jsonl");

/** What a part has found out so far; null when that is nothing. */
export function resultsOf(name) {
  if (name === "test" && !existsSync(testLines)) return null;
  return name === "test" ? testsIn(readFileSync(testLines, "utf8")) : readJson(resultsFile(name));
}

export function forgetResults(name) {
  mkdirSync(folder, { recursive: true });
  rmSync(name === "test" ? testLines : resultsFile(name), { force: true });
}

function addonOf({ emulated }) {
  const names = emulated ? ["Release", "hyperrouter-emulated.node"] : ["cuda", "Release", "hyperrouter.node"];
  const addon = join(root, "build", ...names);
  if (existsSync(addon)) return addon;
  throw new CommandError(`${addon} is missing. Run the part "build" first`);
}

/** The seconds that are left of `seconds` from now on. */
function countdown(seconds) {
  const end = performance.now() + 1000 * seconds;
  return () => (end - performance.now()) / 1000;
}

const node = (limits, args, env) => runFor(limits, process.execPath, args, env);
const typescript = ["--import", "./scripts/typescript.mjs"];
const finished = (isGood, summary, results = null) => ({
  status: isGood ? "passed" : "failed",
  summary,
  results,
});

/** Runs a TypeScript program with the addon. @returns how it ended, and what it wrote to its --json file. */
async function runProgram(options, name, program, args = []) {
  const env = { HYPERROUTER_BINDING: addonOf(options) };
  const json = ["--json", resultsFile(name), ...(options.quick ? ["--quick"] : [])];
  const run = await node(options, [...typescript, program, ...json, ...args], env);
  return { ...run, results: resultsOf(name) };
}

const load = "try { require(process.argv[1]) } catch (error) { console.log(error.message); process.exit(1) }";

async function build(options) {
  requireTool("cmake");
  if (!options.emulated) requireTool("nvcc");
  const kind = options.emulated ? "--emulated" : "--cuda";
  const left = countdown(options.seconds);
  for (let attempt = 0; ; attempt += 1) {
    const run = await node({ ...options, seconds: left() }, ["scripts/build-native.mjs", kind]);
    if (run.status !== 0) return finished(false, `the build ${run.how}; the log has its errors`);
    const addon = addonOf(options);
    const { status, output } = capture(process.execPath, ["-e", load, addon]);
    if (status === 0) return finished(true, /^Built .*/m.exec(run.output)?.[0] ?? "up to date");
    if (attempt > 0) return finished(false, `the addon does not load: ${output.trim()}`);
    rmSync(addon); // it may come from another machine
  }
}

/**
 * Op cases run three times, unaligned the third time, and must give the same bits. Each family, and each other file, runs
 * in a process of its own: a fault that the driver does not forget ends one of them.
 */
async function test(options) {
  addonOf(options);
  const left = countdown(options.seconds);
  const env = {
    HYPERROUTER_TEST_LINES: testLines,
    // The reference shares the cores with as many processes.
    HYPERROUTER_THREADS: process.env.HYPERROUTER_THREADS ?? "2",
  };
  const project = options.emulated ? "emulated" : "cuda";
  const common = [
    "--runInBand",
    "--selectProjects",
    project,
    "--reporters",
    "./scripts/gpu-check/jest-reporter.mjs",
  ];
  const runs = await forEachParallel(testRuns(options), async ({ name, args, gpu = {} }) => {
    if (left() < 1) return { name, status: 1, how: "did not begin: there was no time left", output: "" };
    const limits = { seconds: left(), ...quietSecondsOf(options), log: options.log };
    const words = ["scripts/test.mjs", "--no-setup", ...args, ...common];
    const run = await node(limits, words, { ...env, ...gpu });
    return { name, ...run };
  });
  const { passed, failed } = resultsOf("test") ?? testsIn("");
  const ended = unexplained(runs);
  const lines = ended.map(({ name, how }) => `, ${name} ${how}`);
  return finished(
    passed > 0 && runs.every(({ status }) => status === 0),
    `${passed} tests passed, ${failed.length} failed${lines.join("")}`,
    { passed, failed, ended: ended.map(({ name, how }) => ({ name, how })) },
  );
}

/** Runs that failed without a failed test that says why: jest ends with 1 in either case. */
export function unexplained(runs) {
  return runs.filter(({ status, how, output }) => {
    const isFailedTest = how.startsWith("ended with status") && /^failed: /m.test(output);
    return status !== 0 && !isFailedTest;
  });
}

/** A GPU that the results of op cases fill: they take the tiles that large results take on the GPU as it is. */
const smallGpu = { HYPERROUTER_CUDA_MULTIPROCESSORS: "4" };

/** What runs together: arguments of jest, and what the GPU is to be taken for. */
function testRuns({ quick, emulated }) {
  const filesIn = (path, pattern) =>
    readdirSync(join(root, path)).flatMap((name) => pattern.exec(name)?.[1] ?? []);
  const others = filesIn("test/cuda", /^(.*)\.test\.ts$/).filter((name) => name !== "ops");
  const golden = filesIn("test", /^(golden-parity-.*)\.test\.ts$/);
  const families = [...filesIn("test/ops", /^(.*)\.cases\.ts$/), "tf32 products", "bf16 products"];
  const runs = [
    ...families.map((name) => ({
      name,
      args: ["test/cuda/ops", "--testNamePattern", `^${name} `],
      ...(emulated ? {} : { gpu: smallGpu }), // of the emulated ones, some are small
    })),
    ...others.map((name) => ({ name, args: [`test/cuda/${name}`] })),
    ...golden.map((name) => ({ name, args: [`test/${name}`] })),
  ];
  return quick ? runs.filter(({ name }) => ["router", "dispatch"].includes(name)) : runs;
}

/** What the lines of the reporter say. A process that was ended may have left half a line, which does not count. */
export function testsIn(text) {
  const tests = text.split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });
  const failed = tests.filter(({ message }) => message !== undefined);
  return { passed: tests.length - failed.length, failed };
}

async function replay(options) {
  const { status, how, results } = await runProgram(options, "replay", "bench/cuda/replay.ts");
  const lines = (results?.replays ?? []).map(
    ({ dtype, isSame, reason }) => `${dtype} ${reason ?? `${isSame ? "same" : "OTHER"} bits`}`,
  );
  if (lines.length === 0 || status !== 0) lines.push(`the replay ${how}`);
  return finished(status === 0, lines.join(", "), results);
}

/** A kernel that breaks the GPU for its program, or hangs, ends that; another program goes on without it. */
async function kernels(options) {
  const left = countdown(options.seconds);
  const run = (...args) =>
    runProgram(
      { ...options, seconds: left(), ...quietSecondsOf(options) },
      "kernels",
      "bench/cuda/kernels.ts",
      [...["--seconds", String(Math.max(1, left() - startSeconds))], ...args],
    );
  const runs = [await run()];
  const canResume = ({ status, results }) => status !== 0 && results && left() > startSeconds;
  while (runs.length <= mostRestarts && canResume(runs.at(-1))) runs.push(await run("--resume"));
  return judgeKernels(runs);
}

/** The last run knows all results; each has to come to its end. */
export function judgeKernels(runs) {
  const { how, results } = runs.at(-1);
  if (!results) return finished(false, `the benchmark ${how}`);
  const ended = runs.flatMap((run) => (run.status === 0 ? [] : [run.how]));
  const { rows, failures, missing, rates } = results;
  const gigabytes = (rates.copyBytesPerSecond / 1e9).toFixed(0);
  const parts = [
    `${rows.length} kernels, copy ${rates.copyBytesPerSecond > 0 ? `${gigabytes} GB/s` : "not measured"}`,
    ...(failures.length > 0 ? [`${failures.length} failed`] : []),
    ...(missing.length > 0 ? [`${missing.length} missing`] : []),
    ...ended.map((end) => `the benchmark ${end}`),
  ];
  const isGood = ended.length + failures.length + missing.length === 0;
  return finished(isGood, parts.join("; "), { ...results, ended });
}

/** One process for each tool, at once. Emulated, the calls run without a tool: the emulator looks on by itself. */
async function sanitize(options) {
  const { parseSanitizer, sanitizerTools } = await import("../../bench/cuda/sanitizer.ts");
  const left = countdown(options.seconds);
  const env = { HYPERROUTER_BINDING: addonOf(options), ...smallGpu };
  const calls = (seconds) => ["test/cuda/sanitized-calls.ts", "--seconds", String(Math.round(seconds))];
  if (options.emulated) {
    const run = await node(options, [...typescript, ...calls(options.quick ? 5 : sanitizer.seconds)], env);
    if (run.status !== 0) return finished(false, `the calls ${run.how}`);
    const done = run.output.trim().split("\n").at(-1);
    return {
      status: "skipped",
      summary: `compute-sanitizer needs a GPU; ${done} ran without it`,
      results: null,
    };
  }
  requireTool("compute-sanitizer");
  const tools = {};
  const runTool = async (tool) => {
    const seconds = Math.min(sanitizer.longestSeconds, left());
    const most = options.quick ? 5 : Math.min(sanitizer.seconds, 0.6 * seconds);
    const file = join(folder, `${tool}.results.json`);
    rmSync(file, { force: true });
    const program = [process.execPath, ...typescript, ...calls(most), "--json", file];
    const run = await runFor({ ...options, seconds }, "compute-sanitizer", ["--tool", tool, ...program], env);
    tools[tool] = judge(run, parseSanitizer(run.output), readJson(file));
    writeJson(resultsFile("sanitize"), tools);
  };
  await Promise.all(sanitizerTools.map(runTool));
  // In case that they were in each other's way.
  for (const tool of sanitizerTools) if (!tools[tool].hasResult && left() > startSeconds) await runTool(tool);
  const lines = sanitizerTools.map((tool) => `${tool}: ${tools[tool].summary}`);
  return finished(
    sanitizerTools.every((tool) => tools[tool].passed),
    lines.join("; "),
    tools,
  );
}

function judge({ status, how }, findings, calledOps) {
  const hasResult = Boolean(findings && calledOps) && !how.startsWith("was ended");
  if (!hasResult) return { passed: false, hasResult, summary: `${how}, no result`, findings, calledOps };
  const { errors, warnings } = findings;
  const of = `${calledOps.done} of ${calledOps.planned} cases of ${calledOps.ops} ops`;
  const summary = `${errors} errors${warnings ? `, ${warnings} warnings` : ""} in ${of}`;
  return { passed: errors === 0 && status === 0, hasResult, summary, findings, calledOps };
}

/** Without a GPU peers compute on the CPU, if there are any. */
async function layers(options) {
  if (!options.emulated) requireTorch();
  const seconds = Math.max(1, options.quick ? 30 : options.seconds - 2 * startSeconds);
  const peers = options.emulated ? ["--peers", "cpu"] : [];
  const args = ["--seconds", String(seconds), ...peers];
  return judgeLayers(await runProgram(options, "layers", "bench/cuda/layers.ts", args), options.emulated);
}

/** Missing peers and time are no failure, other results are. */
export function judgeLayers({ status, how, results }, isEmulated) {
  if (!results) return finished(false, `the benchmark ${how}`);
  const { rows, missing } = results;
  const wrong = missing.filter(({ kind }) => kind === "ours" || kind === "disagrees");
  const parts = [
    `${rows.length} comparisons`,
    ...(missing.length > 0 ? [`${missing.length} missing or not complete`] : []),
    ...(wrong.length > 0 ? [`${wrong.length} where ours fails or the peer disagrees`] : []),
    ...(status === 0 ? [] : [`the benchmark ${how}`]),
  ];
  const isGood = status === 0 && wrong.length === 0 && (rows.length > 0 || isEmulated);
  return finished(isGood, parts.join("; "), results);
}

export const parts = { build, test, replay, kernels, sanitize, layers };
export const partNames = Object.keys(parts);
