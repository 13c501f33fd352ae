// npm run check:cuda: compiles every CUDA kernel for every GPU and compares what the compiler says of it with
// cuda/registers.json. Fails for a kernel that keeps registers in memory (spills, a stack frame), that needs more
// registers than the table allows, or that the table lacks; --update rewrites the table.
//
// Files whose text and headers did not change since the last time are not compiled again.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { cmakeList } from "./cmake-list.mjs";
import { capture, CommandError, isOnPath, main, root } from "./command.mjs";
import { captureLater, forEachParallel } from "./parallel.mjs";
import { hashFiles, listFiles, readStamp, writeStamp } from "./stamp.mjs";

const table = join(root, "cuda", "registers.json");
const folder = join(root, "build", "cuda-check");
const mostKernels = 150;

/** "80-real": machine code for 8.0; "90-virtual": PTX for 9.0 and later. */
const targets = cmakeList("HR_CUDA_ARCHS").map((arch) => {
  const [number, kind] = arch.split("-");
  return { name: `${kind === "virtual" ? "compute" : "sm"}_${number}`, isVirtual: kind === "virtual" };
});

function nvcc(file, target, output) {
  const flags = cmakeList("HR_CUDA_FLAGS").filter((flag) => !flag.startsWith("--compress-mode"));
  const kind = target.isVirtual ? ["-ptx"] : ["-cubin", "-Xptxas=-v"];
  const args = [
    "-std=c++20",
    ...flags,
    `-I${root}`,
    ...kind,
    `-arch=${target.name}`,
    "-MD",
    "-MF",
    `${output}.d`,
  ];
  return captureLater("nvcc", [...args, "-o", output, file]);
}

/** A hash of what a compilation reads: the headers that it named last time, and its flags. */
function inputsOf(file, target, output) {
  const dependencies = readStamp(`${output}.d`).replaceAll("\\\n", " ").split(/\s+/).slice(1);
  const own = dependencies
    .map((path) => relative(root, path))
    .filter((path) => path && !path.startsWith(".."));
  return hashFiles([relative(root, file), ...own], JSON.stringify([target, cmakeList("HR_CUDA_FLAGS")]));
}

/** What the compiler said, from this run or the last one. */
async function compile({ file, target }) {
  const output = join(folder, `${basename(file, ".cu")}.${target.name}`);
  const stamp = `${output}.stamp`;
  if (readStamp(stamp) === inputsOf(file, target, output)) return readFileSync(`${output}.log`, "utf8");
  const { status, stdout, stderr } = await nvcc(file, target, output);
  const text = stdout + stderr;
  if (status !== 0)
    throw new CommandError(`${text}\n${relative(root, file)} does not compile for ${target.name}.`);
  writeFileSync(`${output}.log`, text);
  writeStamp(stamp, inputsOf(file, target, output));
  return text;
}

/** Kernels of one compilation: mangled name to what they need. */
function parse(log) {
  const kernels = new Map();
  const entry =
    /Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers([^\n]*)/gs;
  for (const [, name, stack, stores, loads, registers, rest] of log.matchAll(entry)) {
    const shared = Number(/(\d+) bytes smem/.exec(rest)?.[1] ?? 0);
    kernels.set(name, {
      registers: Number(registers),
      memory: Number(stack) + Number(stores) + Number(loads),
      shared,
    });
  }
  return kernels;
}

/** "gemm SumPartsKernel" from a mangled run_kernel<SumPartsKernel>. */
function plainNames(file, mangled) {
  const { output } = capture("c++filt", [], { input: mangled.join("\n") });
  return output
    .trim()
    .split("\n")
    .map((line) => {
      const name = line
        .replace(/^void hr::cuda::run_kernel</, "")
        .replace(/ ?>\(.*$/, "")
        .replace(/hr::(cuda|math)::|\(anonymous namespace\)::|_GLOBAL__N__\w+?::/g, "")
        .replaceAll(/\(hr::(\w+)\)(\d)/g, "$1 $2");
      return `${basename(file, ".cu")} ${name}`;
    });
}

/** Kernel to registers on each target, in the order of `targets`; `problems` collects what no table may allow. */
async function measure(problems) {
  const files = listFiles("cuda/kernels").filter((file) => file.endsWith(".cu"));
  const work = files.flatMap((file) => targets.map((target) => ({ file, target })));
  const logs = await forEachParallel(work, compile);
  const kernels = {};
  work.forEach(({ file, target }, i) => {
    if (target.isVirtual) return;
    const parsed = parse(logs[i]);
    if (parsed.size === 0) return;
    const names = plainNames(file, [...parsed.keys()]);
    [...parsed.values()].forEach(({ registers, memory, shared }, j) => {
      (kernels[names[j]] ??= {})[target.name] = registers;
      if (memory > 0)
        problems.push(`${names[j]} keeps ${memory} bytes in memory instead of registers on ${target.name}`);
      if (shared > 0) problems.push(`${names[j]} has static shared memory; ask for it in launch()`);
    });
  });
  return kernels;
}

function compare(kernels, problems) {
  const expected = JSON.parse(readStamp(table) || "{}");
  for (const [name, registers] of Object.entries(kernels)) {
    if (!expected[name]) problems.push(`${name} is not in cuda/registers.json`);
    for (const [target, count] of Object.entries(registers)) {
      const most = expected[name]?.[target];
      if (count > most) problems.push(`${name} needs ${count} registers on ${target}, ${most} so far`);
    }
  }
  for (const name of Object.keys(expected)) {
    if (!kernels[name]) problems.push(`${name} is in cuda/registers.json, but not in cuda/kernels/`);
  }
}

/** One kernel a line. */
function tableText(kernels) {
  const lines = Object.keys(kernels)
    .sort()
    .map((name) => `  ${JSON.stringify(name)}: ${JSON.stringify(kernels[name])}`);
  return `{\n${lines.join(",\n")}\n}\n`;
}

await main(async () => {
  if (!isOnPath("nvcc")) return console.log("skipped: there is no nvcc on the path");
  mkdirSync(folder, { recursive: true });
  const started = Date.now();
  const problems = [];
  const kernels = await measure(problems);
  const count = Object.keys(kernels).length;
  if (count >= mostKernels)
    problems.push(`${count} kernels; share more code at run time, fewer than ${mostKernels} are wanted`);
  if (process.argv.includes("--update")) writeFileSync(table, tableText(kernels));
  compare(kernels, problems);
  for (const problem of problems) console.log(problem);
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`${count} kernels for ${targets.map(({ name }) => name).join(", ")} in ${seconds} s`);
  if (problems.length > 0) {
    console.log("fix: the kernels named above, or: npm run check:cuda -- --update");
    process.exitCode = 1;
  }
});
