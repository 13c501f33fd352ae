import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { type Command, program, UsageError } from "../usage.js";

const help = `Usage: ${program} bench [patterns]

Benchmarks kernels and training steps. Only in a checkout of the source: the published package has no benchmarks.

Example: ${program} bench gemm`;

async function run(args: string[]): Promise<void> {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  if (!existsSync(new URL("../../../bench/bench.ts", import.meta.url))) {
    throw new UsageError(
      "this package was installed without its benchmarks",
      "run npm run bench in a checkout",
    );
  }
  const { status } = spawnSync("npm", ["run", "--silent", "bench", "--", ...args], {
    cwd: root,
    stdio: "inherit",
  });
  process.exitCode = status ?? 1;
}

export const benchCommand: Command = {
  name: "bench",
  summary: "run the benchmarks of a checkout",
  help,
  run,
};
