import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { median } from "./statistics.js";

/** How long it takes until a program trains. */
export interface StartupResult {
  /** From before the import of the built package to the end of the first update. Median. */
  importToFirstStepMs: number;
  /** One per process. */
  samples: number[];
}

/** The most that it may take. */
export const startupLimitMs = 300;

const program = fileURLToPath(new URL("first-step.mjs", import.meta.url));

/** Runs first-step.mjs in processes of its own, one after the other; one more before them fills the file cache. */
export async function measureStartup(processes: number): Promise<StartupResult> {
  const samples: number[] = [];
  for (let i = -1; i < processes; i += 1) {
    const { stdout } = await promisify(execFile)(process.execPath, [program]);
    if (i >= 0) samples.push(Number(stdout));
  }
  return { importToFirstStepMs: median(samples), samples };
}
