// The GPU and the tools of this machine.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { capture, CommandError, isOnPath } from "../command.mjs";

const toolkit = join("/usr/local/cuda", "bin");
const samplingMs = 5000;

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

const fixes = {
  nvcc: "install the CUDA toolkit 13 and put its bin folder on the PATH",
  cmake: "install CMake 3.18 or later",
  "compute-sanitizer": "it is part of the CUDA toolkit; put /usr/local/cuda/bin on the PATH",
  python3: "install Python 3 with PyTorch for CUDA",
};

export function requireTool(name) {
  if (!isOnPath(name)) throw new CommandError(`${name} is missing: ${fixes[name]}`);
}

export function requireTorch() {
  requireTool("python3");
  const { status, output } = capture("python3", ["-c", "import torch; assert torch.cuda.is_available()"]);
  if (status === 0) return;
  const reason = output.trim().split("\n").at(-1);
  throw new CommandError(`python3 has no PyTorch that sees the GPU (${reason}): pip install torch`);
}

/** Looks at the GPU every few seconds until end(). */
export class GpuWatch {
  #states = [];
  #timer;

  constructor() {
    void this.#look();
    this.#timer = setInterval(() => this.#look(), samplingMs);
  }

  /** @returns what it saw. */
  async end() {
    clearInterval(this.#timer);
    await this.#look();
    return this.#states;
  }

  async #look() {
    const { gpuStateQuery, parseGpuState } = await import("../../bench/cuda/machine.ts");
    try {
      const { stdout } = await promisify(execFile)("nvidia-smi", gpuStateQuery);
      this.#states.push({ time: new Date().toISOString(), ...parseGpuState(stdout) });
    } catch {
      // A look that fails is a look less.
    }
  }
}
