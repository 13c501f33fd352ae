// Builds build/Release/hyperrouter.node when it is missing or older than its sources. Silent when fresh.
//   --emulated  build/Release/hyperrouter-emulated.node, with the CUDA backend on an emulated GPU, for tests
//   --sanitize  build/sanitize/Release/..., with AddressSanitizer and UBSan
//   --cuda      build/cuda/Release/hyperrouter.node, with the CUDA backend for the GPU that is here, or for that of
//               another machine, CUDAARCHS=90a-real say; needs nvcc 13
//   --release   build/release/Release/hyperrouter.node, with the CUDA backend for every GPU
// Uses cmake-js; without CMake on the machine it falls back to node-gyp, which builds the plain addon only.
import { existsSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { cmakeList } from "./cmake-list.mjs";
import { CommandError, capture, isMain, isOnPath, main, root } from "./command.mjs";
import { hashFiles, readStamp, withLock, writeStamp } from "./stamp.mjs";

const sources = ["CMakeLists.txt", "ops", "cpu", "binding", "scripts/node-gyp"];
const cudaSources = ["cuda", "test/emulator"];
const kinds = ["emulated", "sanitize", "cuda", "release"];

/** Builds when needed; true if it did. Call it under withLock(). */
export function buildNative({ emulated = false, sanitize = false, cuda = false, release = false } = {}) {
  const folder = join(root, "build", sanitize ? "sanitize" : release ? "release" : cuda ? "cuda" : "");
  const addon = join(folder, "Release", `hyperrouter${emulated ? "-emulated" : ""}.node`);
  const stamp = join(folder, `stamp${emulated ? "-emulated" : ""}`);
  const inputs = emulated || cuda || release ? [...sources, ...cudaSources] : sources;
  const architecture = cuda ? gpuArchitecture() : "";
  const hash = hashFiles(inputs, [process.platform, process.arch, architecture].join("-"));
  if (existsSync(addon) && readStamp(stamp) === hash) return false;

  rmSync(stamp, { force: true });
  const options = { emulated, sanitize, cuda, release, architecture };
  const wanted = kinds.filter((kind) => options[kind]);
  const useCMake = wanted.length > 0 || isOnPath("cmake");
  console.log(
    `Building ${["the native addon", ...wanted].join(", ")} with ${useCMake ? "CMake" : "node-gyp"} ...`,
  );
  const started = Date.now();
  const { status, output } = useCMake ? buildWithCMake(folder, options) : buildWithGyp();
  if (status !== 0) fail("The native build failed.", output, wanted);
  if (!sanitize) checkLoads(addon, wanted);
  if (cuda || release) checkNeeds(addon, wanted);
  writeStamp(stamp, hash);
  console.log(`Built ${addon} in ${((Date.now() - started) / 1000).toFixed(0)} s.`);
  return true;
}

/** What CMake calls the GPU that is here, as releases are built where they are for it; "" without one. Or $CUDAARCHS. */
function gpuArchitecture() {
  if (process.env.CUDAARCHS) return process.env.CUDAARCHS;
  const { status, output } = capture("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader"]);
  const capability = output.split("\n")[0].trim().replace(".", "");
  if (status !== 0 || !/^\d+$/.test(capability)) return "";
  const released = cmakeList("HR_CUDA_ARCHS").find((arch) => arch.replace(/a?-real$/, "") === capability);
  return released ?? `${capability}-real`;
}

function buildWithCMake(folder, { emulated, sanitize, cuda, release, architecture }) {
  // The cache remembers the folder and the generator; both may have changed since.
  rmSync(join(folder, "CMakeCache.txt"), { force: true });
  const cmakeJs = join(root, "node_modules", "cmake-js", "bin", "cmake-js");
  const target = emulated ? "emulated" : "addon";
  const args = [cmakeJs, "build", "--out", folder, "--log-level", "warn", "--target", target];
  if (isOnPath("ninja")) args.push("--generator", "Ninja");
  if (sanitize) args.push("--CDHR_SANITIZE=ON");
  if (cuda || release) args.push("--CDHR_WITH_CUDA=ON");
  if (release) args.push("--CDHR_CUDA_RELEASE=ON");
  if (architecture) args.push(`--CDCMAKE_CUDA_ARCHITECTURES=${architecture}`);
  const env = { CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()), ...process.env };
  return capture(process.execPath, args, { env });
}

function buildWithGyp() {
  return capture(process.execPath, [join(root, "scripts", "node-gyp", "build.mjs")]);
}

const loadScript =
  "try { require(process.argv[1]) } catch (error) { console.log(error.message); process.exit(1) }";

function checkLoads(addon, wanted) {
  const { status, output } = capture(process.execPath, ["-e", loadScript, addon]);
  if (status !== 0) fail("The native addon was built but does not load.", output, wanted);
}

/** The CUDA run time is inside; the driver is looked for at run time. */
function checkNeeds(addon, wanted) {
  const { output } = capture("readelf", ["-d", addon]);
  const needed = output.split("\n").filter((line) => /NEEDED.*lib(cu|nv)/.test(line));
  if (needed.length > 0) fail("The addon needs CUDA libraries at load time.", needed.join("\n"), wanted);
}

function fail(reason, output, wanted) {
  const lines = output.trimEnd().split("\n");
  const tail = lines.filter((line) => !/^\[\d+\/\d+\] Building/.test(line)).slice(-40);
  const flags = wanted.map((kind) => ` --${kind}`).join("");
  const command = flags ? `node scripts/build-native.mjs${flags}` : "npm run build:native";
  throw new CommandError(`${tail.join("\n")}\n\n${reason} Fix the error above, then run: ${command}`);
}

if (isMain(import.meta.url)) {
  const options = Object.fromEntries(kinds.map((kind) => [kind, process.argv.includes(`--${kind}`)]));
  await main(() => withLock(() => buildNative(options)));
}
