// npm run format: rewrites TypeScript, JavaScript and JSON with prettier, C++ with clang-format.
// --check only reports.
import { join, relative } from "node:path";
import { capture, isMain, main, root } from "./command.mjs";
import { listFiles } from "./stamp.mjs";

export function prettier(check) {
  const bin = join(root, "node_modules", "prettier", "bin", "prettier.cjs");
  return capture(process.execPath, [bin, check ? "--check" : "--write", "--log-level=warn", "."]);
}

export function clangFormat(check) {
  const bin = join(root, "node_modules", "clang-format", "index.js");
  const folders = ["ops", "cpu", "cuda", "binding", "bench", "test/emulator"];
  const files = listFiles(...folders).filter((file) => /\.(h|cpp|cu)$/.test(file));
  const mode = check ? ["--dry-run", "-Werror"] : ["-i"];
  const names = files.map((file) => relative(root, file));
  const { status, output } = capture(process.execPath, [bin, ...mode, ...names]);
  // One line per file, without the excerpts.
  const wrong = names.filter((name) => output.includes(`${name}:`));
  return { status, output: wrong.length > 0 ? `${wrong.join("\n")}\n` : output };
}

if (isMain(import.meta.url)) {
  await main(() => {
    const check = process.argv.includes("--check");
    for (const result of [prettier(check), clangFormat(check)]) {
      process.stdout.write(result.output);
      process.exitCode ||= result.status;
    }
  });
}
