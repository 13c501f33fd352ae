// npm run test:mutations: plants the faults of test/emulator/mutations/*.json in the CUDA kernels, one at a time, and
// expects the op cases on the emulated GPU to find each of them. Further arguments choose files or names.
//
// A mutation is {name, file, find, replace, ops, dtype}: `find` occurs once in `file`; `ops` are the ops whose cases
// must fail. Works on a copy of the sources, so that the checkout stays as it is.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { capture, CommandError, isOnPath, main, root } from "./command.mjs";
import { listFiles, readStamp } from "./stamp.mjs";

const folder = join(root, "build", "mutations");
const copy = join(folder, "source");
const build = join(folder, "build");
const binding = join(build, "Release", "hyperrouter-emulated.node");
const longestRunMs = 120_000;

/** Writes only what differs: the build compiles what was written. */
function write(file, text) {
  if (readStamp(file) === text) return;
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** The op families that some ops (in camel case) belong to. */
function familiesOf(ops) {
  const names = ops.map((op) => op.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
  const headers = listFiles("ops").filter((file) => file.endsWith(".h"));
  const declares = (file) => names.some((name) => readFileSync(file, "utf8").includes(`OP(${name}, `));
  return headers.filter(declares).map((file) => basename(file, ".h"));
}

/** Brings the copy up to date. Of the CUDA families it keeps those named, so that a fault in a header builds fast. */
function copySources(families) {
  const isOther = (file) => {
    const family = basename(file, ".cu");
    return file.endsWith(".cu") && existsSync(join(root, "ops", `${family}.h`)) && !families.includes(family);
  };
  for (const file of listFiles("CMakeLists.txt", "ops", "cpu", "cuda", "binding", "bench", "test/emulator")) {
    const target = join(copy, relative(root, file));
    if (isOther(file)) rmSync(target, { force: true });
    else if (/\.(txt|h|cpp|cu)$/.test(file)) write(target, readFileSync(file, "utf8"));
  }
  if (!existsSync(join(copy, "node_modules")))
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  const generator = isOnPath("ninja") ? ["-G", "Ninja"] : [];
  // Faults leave variables unused: no warnings.
  const { status, output } = capture("cmake", [
    "-S",
    copy,
    "-B",
    build,
    "-DCMAKE_CXX_FLAGS=-w",
    ...generator,
  ]);
  if (status !== 0) throw new CommandError(output);
}

function compile() {
  return capture("cmake", ["--build", build, "--target", "addon_emulated"]);
}

/** Runs the op cases: what they found, or "" if all is as it should be. */
function findFault({ ops, dtype = "f32" }) {
  const script = join(root, "test", "emulator", "mutations", "run-cases.ts");
  const args = ["--import", join(root, "scripts", "typescript.mjs"), script, dtype, ...ops];
  const env = { ...process.env, HYPERROUTER_BINDING: binding };
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: root,
    env,
    encoding: "utf8",
    timeout: longestRunMs,
  });
  if (status === 0) return "";
  if (status === 1) return stdout.trim() || (/^\w*Error: .*$/m.exec(stderr)?.[0] ?? stderr);
  return signal === "SIGTERM" ? "does not end" : `ends with ${signal ?? status}`;
}

function readMutations() {
  const files = listFiles("test/emulator/mutations").filter((file) => file.endsWith(".json"));
  const wanted = process.argv.slice(2);
  const all = files.flatMap((file) =>
    JSON.parse(readFileSync(file, "utf8")).map((mutation) => ({
      ...mutation,
      family: basename(file, ".json"),
    })),
  );
  return all.filter(
    ({ family, name }) =>
      wanted.length === 0 || wanted.some((word) => family === word || name.includes(word)),
  );
}

/** "caught", "survived" or what is wrong with the mutation itself, and what the cases said. */
function run(mutation) {
  const file = join(copy, mutation.file);
  const original = readFileSync(file, "utf8");
  if (original.split(mutation.find).length !== 2)
    return ["stale", `"find" does not occur once in ${mutation.file}`];
  write(
    file,
    original.replace(mutation.find, () => mutation.replace),
  );
  try {
    const { status, output } = compile();
    if (status !== 0) return ["stale", output.split("\n").find((line) => line.includes("error:")) ?? output];
    const fault = findFault(mutation);
    return fault ? ["caught", fault] : ["survived", ""];
  } finally {
    write(file, original);
  }
}

/** Builds without any mutation and makes sure that nothing is found then. */
function prepare(mutations) {
  copySources(familiesOf(mutations.flatMap(({ ops }) => ops)));
  const { status, output } = compile();
  if (status !== 0) throw new CommandError(output);
  for (const dtype of new Set(mutations.map((mutation) => mutation.dtype))) {
    const same = mutations.filter((mutation) => mutation.dtype === dtype);
    const fault = findFault({ ops: [...new Set(same.flatMap(({ ops }) => ops))], dtype });
    if (fault) throw new CommandError(`Without any mutation: ${fault}`);
  }
}

await main(() => {
  const mutations = readMutations();
  let caught = 0;
  for (const family of new Set(mutations.map((mutation) => mutation.family))) {
    const own = mutations.filter((mutation) => mutation.family === family);
    prepare(own);
    for (const mutation of own) {
      const [outcome, what] = run(mutation);
      if (outcome === "caught") caught += 1;
      console.log(`${outcome.padEnd(8)}  ${family}: ${mutation.name}`);
      if (what) console.log(`          ${what.slice(0, 160)}`);
    }
  }
  console.log(`${caught}/${mutations.length} mutations caught`);
  process.exitCode = caught === mutations.length ? 0 : 1;
});
