import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { Device } from "../lib/device.js";

const folder = fileURLToPath(new URL("../build/bench", import.meta.url));

/** FLOP/s or bytes/s. */
export interface Rate {
  perSecond: number;
  /** Per second of CPU time: hardly touched by other programs, blind to threads that wait. */
  perCpuSecond: number;
}

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
  multiplyAdd(threads: number): Rate {
    return this.#run("fma", threads, this.milliseconds);
  }

  /** Bytes/s of copies that read and write `bytes` together. */
  copy(threads: number, bytes: number): Rate {
    return this.#run("memcpy", threads, this.milliseconds, bytes);
  }

  /** Bytes/s of sums over `bytes`. */
  read(threads: number, bytes: number): Rate {
    return this.#run("read", threads, this.milliseconds, bytes);
  }

  #run(...args: (string | number)[]): Rate {
    const { stdout, stderr, error } = spawnSync(this.#program, args.map(String), { encoding: "utf8" });
    if (error !== undefined || stderr !== "") {
      throw new Error(
        `${this.#program} failed: ${error?.message ?? stderr}. Run: node scripts/build-bench.mjs`,
      );
    }
    const [perSecond = NaN, perCpuSecond = NaN] = stdout.split(" ").map(Number);
    return { perSecond, perCpuSecond };
  }
}
