// npm run check: every check that needs no test. Runs them all; each that fails says what fixes it.
import { join } from "node:path";
import { capture, main, root } from "./command.mjs";
import { clangFormat, prettier } from "./format.mjs";

const bin = (...path) => join(root, "node_modules", ...path);
const node = (...args) => capture(process.execPath, args);

const checks = [
  ["format of TypeScript, JavaScript, JSON", "npm run format", () => prettier(true)],
  ["format of C++", "npm run format", () => clangFormat(true)],
  ["types", "edit the files named above", () => node(bin("typescript", "bin", "tsc"), "-p", "tsconfig.json")],
  ["lint", "npx eslint --fix .", () => node(bin("eslint", "bin", "eslint.js"), "--max-warnings=0", ".")],
  ["layers", "move the code, or the import, down a layer", () => node("scripts/check-layers.mjs")],
  ["generated files", "npm run gen", () => node("scripts/check-generated.mjs")],
  [
    "file sizes",
    "split the file by noun, or say why in its header: Long because ...",
    () => node("scripts/size-report.mjs"),
  ],
];

await main(() => {
  const failed = checks.filter(([name, fix, check]) => {
    const { status, output } = check();
    console.log(`${status === 0 ? "ok  " : "FAIL"}  ${name}`);
    if (output.trim()) console.log(output.trimEnd().replace(/^/gm, "      "));
    if (status === 0) return false;
    console.log(`      fix: ${fix}`);
    return true;
  });
  process.exitCode = failed.length > 0 ? 1 : 0;
});
