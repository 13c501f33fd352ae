// Module hooks of typescript.mjs: a missing ./x.js is ./x.ts, and .ts files are transpiled when loaded.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { transpile } from "./transpile.mjs";

export async function resolve(specifier, context, nextResolve) {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if (error.code !== "ERR_MODULE_NOT_FOUND" || !/^\.{1,2}\/.*\.js$/.test(specifier)) throw error;
    return nextResolve(specifier.replace(/\.js$/, ".ts"), context);
  }
}

export async function load(url, context, nextLoad) {
  if (!url.endsWith(".ts")) return nextLoad(url, context);
  const path = fileURLToPath(url);
  return { format: "module", shortCircuit: true, source: transpile(await readFile(path, "utf8"), path) };
}
