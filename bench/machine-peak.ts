import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Device } from "../lib/device.js";

const folder = fileURLToPath(new URL("../build/bench", import.meta.url));

/** Runs bench/machine_peak.cpp, compiled for the instruction set of a device. */
export class MachinePeak {
  readonly #program: string;

  constructor(
    device: Device,
    private readonly milliseconds: number,
  ) {
    this.#program = join(folder, `machine_peak_${device.description.split(",")[0] ?? ""}`);
  }

  /** FLOP/s of independent multiply-adds. */
  multiplyAdd(threads: number): number {
    return this.#run("fma", threads, this.milliseconds);
  }

  /** Bytes/s of copies that read and write `bytes` together. */
  copy(threads: number, bytes: number): number {
    return this.#run("memcpy", threads, this.milliseconds, bytes);
  }

  #run(...args: (string | number)[]): number {
    const { stdout, stderr, error } = spawnSync(this.#program, args.map(String), { encoding: "utf8" });
    const rate = Number(stdout);
    if (error !== undefined || !(rate > 0)) {
      throw new Error(`${this.#program} failed: ${error?.message ?? stderr}. Run: npm run bench`);
    }
    return rate;
  }
}
