// The GPU and the tools of this machine.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { capture, CommandError, isOnPath } from "../command.mjs";

const toolkit = join("/usr/local/cuda", "bin");
const samplingMs = 5000;
/** For nvidia-smi, which hangs where the driver does. */
const limits = { timeout: 5000, killSignal: "SIGKILL" };

/** The CUDA toolkit is often installed without being on the path. */
export function addToolkitToPath() {
  if (!isOnPath("nvcc") && existsSync(join(toolkit, "nvcc"))) process.env.PATH += delimiter + toolkit;
}

export function requireGpu() {
  if (capture("nvidia-smi", ["-L"]).status === 0) return;
  throw new CommandError(
    "No NVIDIA GPU: `nvidia-smi -L` finds none. Run this on a machine with one and its driver (r580 or later), " +
      "or look at the script alone with: node scripts/gpu-check.mjs --emulated --quick",
  );
}

/** undefined where nvidia-smi does not say. */
export async function gpuName() {
  const { gpuStateQuery, parseGpuState } = await import("../../bench/cuda/machine.ts");
  const { status, output } = capture("nvidia-smi", gpuStateQuery);
  return status === 0 ? parseGpuState(output).name : undefined;
}

const fixes = {
  nvcc: "install the CUDA toolkit 13 and put its bin folder on the PATH",
  cmake: "install CMake 3.18 or later",
  "compute-sanitizer": "it is part of the CUDA toolkit; put /usr/local/cuda/bin on the PATH",
  python3: "install Python 3 with PyTorch for CUDA",
};

export function requireTool(name) {
  if (!isOnPath(name)) throw new CommandError(`${name} is missing: ${fixes[name]}`);
}

/** Whether it sees the GPU is for its user to find out: importing it takes seconds. */
export function requireTorch() {
  requireTool("python3");
  const find = "import importlib.util; raise SystemExit(importlib.util.find_spec('torch') is None)";
  if (capture("python3", ["-c", find]).status !== 0)
    throw new CommandError("python3 has no PyTorch: pip install torch");
}

/** Looks at the GPU every few seconds until end(). */
export class GpuWatch {
  /** What it has seen so far. */
  states = [];
  #timer;

  constructor() {
    void this.#look();
    this.#timer = setInterval(() => this.#look(), samplingMs);
  }

  async end() {
    clearInterval(this.#timer);
    await this.#look();
  }

  async #look() {
    const { gpuStateQuery, parseGpuState } = await import("../../bench/cuda/machine.ts");
    try {
      const { stdout } = await promisify(execFile)("nvidia-smi", gpuStateQuery, limits);
      this.states.push({ time: new Date().toISOString(), ...parseGpuState(stdout) });
    } catch {
      // A look that fails is a look less.
    }
  }
}
