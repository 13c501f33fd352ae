// Running several programs at a time.
import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
import { CommandError, root } from "./command.mjs";

/** Runs `file` quietly. Resolves with its status, or the signal that ended it, and what it printed. */
export function captureLater(file, args, options = {}) {
  return new Promise((resolve, reject) => {
    execFile(file, args, { cwd: root, maxBuffer: 1 << 28, ...options }, (error, stdout, stderr) => {
      const isMissing = typeof error?.code === "string" && error.code.startsWith("E");
      if (isMissing) return reject(new CommandError(`${file} could not be started: ${error.message}`));
      resolve({ status: error ? error.code : 0, signal: error?.signal ?? null, stdout, stderr });
    });
  });
}

/** The results of action(item), in the order of the items; as many at a time as builds run compilers. */
export async function forEachParallel(items, action) {
  const jobs = Number(process.env.CMAKE_BUILD_PARALLEL_LEVEL ?? availableParallelism());
  const queue = [...items.entries()];
  const results = new Array(items.length);
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) results[next[0]] = await action(next[1]);
  };
  await Promise.all(Array.from({ length: jobs }, work));
  return results;
}
