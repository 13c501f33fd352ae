// Brings a checkout to a runnable state: dependencies, native addon, compiled TypeScript. Does only what is
// missing or stale, so `npm start` and `npm test` run it every time. Needs nothing but Node itself.
import { chmodSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { CommandError, capture, isMain, main, root, run } from "./command.mjs";
import { buildNative } from "./build-native.mjs";
import { whyNoEmulator, whyNoGpu } from "./cuda-addons.mjs";
import { hashFiles, readStamp, withLock, writeStamp } from "./stamp.mjs";

/** @param cuda Also the addons with a CUDA backend that this machine can test. */
export function setup({ cuda = false } = {}) {
  withLock(() => {
    installDependencies();
    buildNative();
    if (cuda && !whyNoEmulator()) buildNative({ emulated: true });
    if (cuda && !whyNoGpu()) buildNative({ cuda });
    compileTypeScript();
  });
}

function installDependencies() {
  const installed = statSync(join(root, "node_modules", ".package-lock.json"), { throwIfNoEntry: false });
  if (installed && installed.mtimeMs >= statSync(join(root, "package-lock.json")).mtimeMs) return;
  console.log("Installing dependencies ...");
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ["npm"];
  const [file, ...prefix] = npm;
  const args = [
    ...prefix,
    "ci",
    "--include=dev",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
  ];
  // A registry hiccup is common enough to deserve a second try.
  if (run(file, args) !== 0 && run(file, args) !== 0) {
    throw new CommandError("Dependencies could not be installed. Check the network, then run: npm ci");
  }
}

function compileTypeScript() {
  const stamp = join(root, "build", "stamp-typescript");
  const hash = hashFiles(["lib", "tsconfig.json", "tsconfig.build.json", "package-lock.json"]);
  if (readStamp(stamp) === hash && statSync(join(root, "dist"), { throwIfNoEntry: false })) return;
  console.log("Compiling TypeScript ...");
  rmSync(join(root, "dist"), { recursive: true, force: true });
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const { status, output } = capture(process.execPath, [
    tsc,
    "-p",
    "tsconfig.build.json",
    "--pretty",
    "false",
  ]);
  if (status !== 0) {
    throw new CommandError(
      `${output.trimEnd()}\n\nTypeScript did not compile. Fix the errors above, then run: npm run build`,
    );
  }
  chmodSync(join(root, "dist", "cli", "main.js"), 0o755); // npm does this where it installs a package
  writeStamp(stamp, hash);
}

if (isMain(import.meta.url)) await main(() => setup());
