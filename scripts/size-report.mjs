// Lists source files over the guide of 400 lines. Fails for each whose header does not say why
// ("Long because ..." in its first 20 lines).
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { root } from "./command.mjs";
import { listFiles } from "./stamp.mjs";

const guide = 400;

for (const file of listFiles(
  "ops",
  "cpu",
  "cuda",
  "binding",
  "lib",
  "test",
  "bench",
  "examples",
  "scripts",
)) {
  if (!/\.(h|cpp|cu|ts|mjs)$/.test(file) || file.endsWith(".gen.ts")) continue;
  const lines = readFileSync(file, "utf8").split("\n");
  if (lines.length - 1 <= guide) continue;
  const explained = lines.slice(0, 20).some((line) => line.includes("Long because"));
  console.log(
    `${String(lines.length - 1).padStart(5)}  ${relative(root, file)}${explained ? "" : "  (no reason given)"}`,
  );
  if (!explained) process.exitCode = 1;
}
