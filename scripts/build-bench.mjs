// Builds what only the benchmark needs, in the folder that scripts/setup.mjs has built the addon in.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CommandError, capture, main, root } from "./command.mjs";
import { withLock } from "./stamp.mjs";

await main(() =>
  withLock(() => {
    const folder = join(root, "build");
    if (!existsSync(join(folder, "CMakeCache.txt"))) {
      throw new CommandError("The benchmark needs CMake. Install it, then run: rm -r build && npm run bench");
    }
    const { status, output } = capture("cmake", ["--build", folder, "--target", "machine_peak"]);
    if (status !== 0)
      throw new CommandError(`${output.trimEnd()}\n\nFix the error above, then run: npm run bench`);
  }),
);
