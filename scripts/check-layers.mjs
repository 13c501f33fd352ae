// Who may depend on whom, and which files an op family consists of. Reads import and #include lines.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { root } from "./command.mjs";
import { listFiles } from "./stamp.mjs";

// C++: folder -> folders it may include from.
const includes = {
  ops: ["ops"],
  cpu: ["cpu", "ops"],
  cuda: ["cuda", "ops"],
  binding: ["binding", "ops"],
  "test/emulator": ["test", "cuda", "ops"],
};
const backends = ["cpu/backend.h", "cuda/backend.h"]; // included by one file of binding/

// TypeScript: lowest layer first. A file imports from its own layer and from those before it.
const layers = [
  ["errors.ts", "files.ts", "options.ts", "random.ts"],
  ["native.ts", "native-ops.gen.ts", "dtype.ts"],
  ["tensor.ts", "scope.ts", "device.ts"],
  ["autograd"],
  ["ops"],
  ["nn", "moe", "optim", "data", "checkpoint"],
  ["train", "reference-model.ts", "reference-names.ts"],
  ["cli", "index.ts"],
];

const importPattern = /(?:^(?:import|export)\b(?:[^;"]*?\bfrom)?\s*|\bimport\()"(\.[^"]+)"/gm;

const problems = [];
const read = (file) => readFileSync(join(root, file), "utf8");
const files = (folder, pattern) =>
  listFiles(folder)
    .map((file) => relative(root, file))
    .filter((file) => pattern.test(file));
const matches = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]);

function checkIncludes() {
  const backendUsers = new Set();
  for (const folder of Object.keys(includes)) {
    for (const file of files(folder, /\.(h|cpp|cu)$/)) {
      const text = read(file);
      for (const include of matches(text, /^#include "([^"]+)"/gm)) {
        if (folder === "binding" && backends.includes(include)) backendUsers.add(file);
        else if (!includes[folder].includes(include.split("/")[0]))
          problems.push(`${file} includes ${include}`);
      }
      if (folder !== "binding" && /^#include <(node_api|napi|js_native_api)/m.test(text))
        problems.push(`${file} includes Node-API`);
    }
  }
  if (backendUsers.size > 1)
    problems.push(`only one file may include ${backends.join(", ")}: ${[...backendUsers].join(", ")}`);
}

/** The layer number of a file below lib/. */
function layerOf(file) {
  const name = relative("lib", file).split("/")[0];
  const layer = layers.findIndex((names) => names.includes(name));
  if (layer < 0) problems.push(`${file}: add "${name}" to the layers in scripts/check-layers.mjs`);
  return layer;
}

function checkImports() {
  for (const file of files("lib", /\.ts$/)) {
    const layer = layerOf(file);
    for (const specifier of matches(read(file), importPattern)) {
      const target = normalize(join(dirname(file), specifier)).replace(/\.js$/, ".ts");
      if (!target.startsWith("lib/")) problems.push(`${file} imports ${specifier}, which is outside lib/`);
      else if (layerOf(target) > layer) problems.push(`${file} imports ${target}, a higher layer`);
    }
  }
}

function checkFamilies() {
  for (const family of matches(read("ops/op_table.h"), /^#include "ops\/(\w+)\.h"/gm)) {
    const kebab = family.replaceAll("_", "-");
    const parts = [`cpu/kernels/${family}.cpp`, `lib/ops/${kebab}.ts`, `test/ops/${kebab}.cases.ts`];
    for (const part of parts)
      if (!existsSync(join(root, part))) problems.push(`op family ${family} lacks ${part}`);
  }
}

checkIncludes();
checkImports();
checkFamilies();
for (const problem of new Set(problems)) console.log(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
