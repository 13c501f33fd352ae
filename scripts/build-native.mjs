// Builds build/Release/hyperrouter.node when it is missing or older than its sources. Silent when fresh.
// --sanitize builds build/sanitize/Release/hyperrouter.node with AddressSanitizer and UBSan instead.
// Uses cmake-js; without CMake on the machine it falls back to node-gyp.
import { existsSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { CommandError, capture, isMain, isOnPath, main, root } from "./command.mjs";
import { hashFiles, readStamp, withLock, writeStamp } from "./stamp.mjs";

const sources = ["CMakeLists.txt", "ops", "cpu", "binding", "scripts/node-gyp"];

/** Builds when needed; true if it did. Call it under withLock(). */
export function buildNative({ sanitize = false } = {}) {
  const folder = join(root, "build", sanitize ? "sanitize" : "");
  const addon = join(folder, "Release", "hyperrouter.node");
  const stamp = join(folder, "stamp");
  const hash = hashFiles(sources, `${process.platform}-${process.arch}`);
  if (existsSync(addon) && readStamp(stamp) === hash) return false;

  rmSync(stamp, { force: true });
  const useCMake = sanitize || isOnPath("cmake");
  console.log(`Building the native addon with ${useCMake ? "CMake" : "node-gyp"} ...`);
  const started = Date.now();
  const { status, output } = useCMake ? buildWithCMake(folder, sanitize) : buildWithGyp();
  if (status !== 0) fail("The native build failed.", output, sanitize);
  if (!sanitize) checkLoads(addon);
  writeStamp(stamp, hash);
  console.log(`Built ${addon} in ${((Date.now() - started) / 1000).toFixed(0)} s.`);
  return true;
}

function buildWithCMake(folder, sanitize) {
  // The cache remembers the folder and the generator; both may have changed since.
  rmSync(join(folder, "CMakeCache.txt"), { force: true });
  const cmakeJs = join(root, "node_modules", "cmake-js", "bin", "cmake-js");
  const args = [cmakeJs, "build", "--out", folder, "--log-level", "warn"];
  if (isOnPath("ninja")) args.push("--generator", "Ninja");
  if (sanitize) args.push("--CDHR_SANITIZE=ON");
  const env = { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()), ...process.env };
  return capture(process.execPath, args, { env });
}

function buildWithGyp() {
  return capture(process.execPath, [join(root, "scripts", "node-gyp", "build.mjs")]);
}

const loadScript =
  "try { require(process.argv[1]) } catch (error) { console.log(error.message); process.exit(1) }";

function checkLoads(addon) {
  const { status, output } = capture(process.execPath, ["-e", loadScript, addon]);
  if (status !== 0) fail("The native addon was built but does not load.", output);
}

function fail(reason, output, sanitize = false) {
  const lines = output.trimEnd().split("\n");
  const tail = lines.filter((line) => !/^\[\d+\/\d+\] Building/.test(line)).slice(-40);
  const command = `npm run ${sanitize ? "build:sanitize" : "build:native"}`;
  throw new CommandError(`${tail.join("\n")}\n\n${reason} Fix the error above, then run: ${command}`);
}

if (isMain(import.meta.url)) {
  await main(() => withLock(() => buildNative({ sanitize: process.argv.includes("--sanitize") })));
}
