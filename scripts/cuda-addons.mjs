// The addons with a CUDA backend that this machine can test, and why it cannot test the others.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { capture, isOnPath, root } from "./command.mjs";

/** @returns why no CUDA addon can be built and run here; "" if one can. */
export function whyNoGpu() {
  if (capture("nvidia-smi", ["-L"]).status !== 0) return "no NVIDIA GPU here: `nvidia-smi -L` finds none";
  return isOnPath("nvcc") ? "" : "nvcc is missing; install the CUDA toolkit 13";
}

/** @returns why the emulated GPU cannot be built here; "" if it can. */
export function whyNoEmulator() {
  return isOnPath("cmake") ? "" : "CMake is missing, and only CMake builds the emulated GPU; install it";
}

/** `{ name, binding, missing }` of each: the file to load, or in `missing` why there is none. */
export function cudaAddons() {
  const built = (...path) => join(root, "build", ...path);
  // A sanitized addon takes the emulated one's place.
  const emulated = process.env.HYPERROUTER_BINDING ?? built("Release", "hyperrouter-emulated.node");
  return [
    addon("emulated", emulated, whyNoEmulator()),
    addon("cuda", built("cuda", "Release", "hyperrouter.node"), whyNoGpu()),
  ];
}

function addon(name, binding, obstacle) {
  const missing = obstacle || (existsSync(binding) ? "" : `${binding} is not built; \`npm test\` builds it`);
  return { name, binding, missing };
}
