// npm run test:mutations: plants the faults of test/emulator/mutations/*.json in the CUDA kernels, one at a time, and
// expects the op cases on the emulated GPU to find each of them. Further arguments choose files or names; --sample
// takes the first two of each file.
//
// A mutation is {name, file, find, replace, ops, dtype}: `find` occurs once in `file`; `ops` are the ops whose cases
// must fail. The checkout stays as it is: the changed file lies in a folder where the compiler looks first, and the
// objects made from it are linked with those of the emulated addon.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { buildNative } from "./build-native.mjs";
import { CommandError, main, root } from "./command.mjs";
import { captureLater, forEachParallel } from "./parallel.mjs";
import { listFiles, withLock } from "./stamp.mjs";

const build = join(root, "build");
const folder = join(build, "mutations");
const longestRunMs = 120_000;
const sampledOfEach = 2;

function readMutations(args) {
  const words = args.filter((arg) => arg !== "--sample");
  const mostOfEach = args.includes("--sample") ? sampledOfEach : Infinity;
  const files = listFiles("test/emulator/mutations").filter((file) => file.endsWith(".json"));
  return files.flatMap((file) => {
    const family = basename(file, ".json");
    return JSON.parse(readFileSync(file, "utf8"))
      .filter(
        ({ name }) => words.length === 0 || words.some((word) => family === word || name.includes(word)),
      )
      .slice(0, mostOfEach)
      .map((mutation) => ({ ...mutation, family }));
  });
}

/** How each object of the emulated addon is compiled, by source file relative to the root. */
function readCompilations() {
  const targets = /CMakeFiles\/(binding|cpu|ops|kernels_\w+|emulator|emulated_cuda|addon_emulated)\.dir\//;
  const commands = JSON.parse(readFileSync(join(build, "compile_commands.json"), "utf8"));
  return commands.flatMap(({ command, file }) => {
    const [, compiler, flags, output] = /^(\S+) (.*) -o (\S+) -c \S+$/.exec(command);
    return targets.test(output) ? [{ source: relative(root, file), compiler, flags, output }] : [];
  });
}

/** Does `source` read `header`, directly or by way of other headers? Paths are relative to the root. */
function reads(source, header) {
  if (source === header) return true;
  const text = existsSync(join(root, source)) ? readFileSync(join(root, source), "utf8") : "";
  return [...text.matchAll(/^#include "(cuda\/[^"]*)"/gm)].some(([, included]) => reads(included, header));
}

/** The op families that some ops (in camel case) belong to. */
function familiesOf(ops) {
  const names = ops.map((op) => op.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
  const headers = listFiles("ops").filter((file) => file.endsWith(".h"));
  const declares = (file) => names.some((name) => readFileSync(file, "utf8").includes(`OP(${name}, `));
  return headers.filter(declares).map((file) => basename(file, ".h"));
}

/** Does a mutation change the object of `source`? Families whose cases do not run stay as they are. */
function isChangedBy({ file, ops }) {
  const families = familiesOf(ops);
  return ({ source }) => {
    const family = basename(source, ".cu");
    const isOther = existsSync(join(root, "ops", `${family}.h`)) && !families.includes(family);
    return source.endsWith(".cu") && !isOther && reads(source, file);
  };
}

/** Compiles what a mutation changes and links it with the rest: the addon, or what the compiler said. */
async function compile(mutation, compilations, overlay) {
  const shell = (line) => captureLater("sh", ["-c", line], { cwd: build });
  const isChanged = isChangedBy(mutation);
  const changed = [];
  for (const { source, compiler, flags } of compilations.filter(isChanged)) {
    const object = join(overlay, `${basename(source)}.o`);
    const from = join(source === mutation.file ? overlay : root, source);
    // Faults leave variables unused: no warnings. -O1 compiles faster.
    const line = `${compiler} -I"${overlay}" ${flags} -w -O1 -o "${object}" -c "${from}"`;
    const { status, stderr } = await shell(line);
    if (status !== 0) return { error: stderr.split("\n").find((text) => text.includes("error:")) ?? stderr };
    changed.push(`"${object}"`);
  }
  // The changed objects come first: of a template that several objects have, the first is linked.
  const others = compilations.filter((compilation) => !isChanged(compilation)).map(({ output }) => output);
  const addon = join(overlay, "hyperrouter-emulated.node");
  const line = `${compilations[0].compiler} -shared -s -o "${addon}" ${changed.join(" ")} ${others.join(" ")}`;
  const { status, stderr } = await shell(line);
  return status === 0 ? { addon } : { error: stderr };
}

/** Runs the op cases: what they found, or "" if all is as it should be. */
async function findFault({ ops, dtype = "f32" }, addon) {
  const script = join(root, "test", "emulator", "mutations", "run-cases.ts");
  const args = ["--import", join(root, "scripts", "typescript.mjs"), script, dtype, ...ops];
  const env = { ...process.env, HYPERROUTER_BINDING: addon };
  const { status, signal, stdout, stderr } = await captureLater(process.execPath, args, {
    env,
    timeout: longestRunMs,
  });
  if (status === 0) return "";
  if (status === 1) return stdout.trim() || (/^\w*Error: .*$/m.exec(stderr)?.[0] ?? stderr);
  return signal === "SIGTERM" ? "does not end" : `ends with ${signal ?? status}`;
}

/** "caught", "survived" or "stale" (the mutation itself is wrong), and what was found. */
async function plant(mutation, compilations) {
  const original = readFileSync(join(root, mutation.file), "utf8");
  if (original.split(mutation.find).length !== 2)
    return ["stale", `"find" does not occur once in ${mutation.file}`];
  const overlay = join(folder, `${mutation.family} ${mutation.name}`.replaceAll(/\W+/g, "-"));
  const file = join(overlay, mutation.file);
  mkdirSync(dirname(file), { recursive: true });
  try {
    writeFileSync(
      file,
      original.replace(mutation.find, () => mutation.replace),
    );
    const { error, addon } = await compile(mutation, compilations, overlay);
    if (error) return ["stale", error];
    const fault = await findFault(mutation, addon);
    return [fault ? "caught" : "survived", fault];
  } finally {
    rmSync(overlay, { recursive: true, force: true });
  }
}

/** Makes sure that nothing is found without any mutation. */
async function checkUnchanged(mutations) {
  const addon = join(build, "Release", "hyperrouter-emulated.node");
  const dtypes = [...new Set(mutations.map(({ dtype }) => dtype))];
  await forEachParallel(dtypes, async (dtype) => {
    const same = mutations.filter((mutation) => mutation.dtype === dtype);
    const fault = await findFault({ ops: [...new Set(same.flatMap(({ ops }) => ops))], dtype }, addon);
    if (fault) throw new CommandError(`Without any mutation: ${fault}`);
  });
}

await main(async () => {
  const mutations = readMutations(process.argv.slice(2));
  const started = Date.now();
  withLock(() => buildNative({ emulated: true }));
  rmSync(folder, { recursive: true, force: true });
  await checkUnchanged(mutations);
  const compilations = readCompilations();
  const outcomes = await forEachParallel(mutations, async (mutation) => {
    const [outcome, what] = await plant(mutation, compilations);
    console.log(`${outcome.padEnd(8)}  ${mutation.family}: ${mutation.name}`);
    if (what) console.log(`          ${what.slice(0, 160)}`);
    return outcome;
  });
  const caught = outcomes.filter((outcome) => outcome === "caught").length;
  const seconds = ((Date.now() - started) / 1000).toFixed(0);
  console.log(`${caught}/${mutations.length} mutations caught in ${seconds} s`);
  process.exitCode = mutations.length > 0 && caught === mutations.length ? 0 : 1;
});
