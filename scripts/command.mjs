// Running other programs, and ending this one with a message that says what to do next.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url)).replace(/[\\/]$/, "");

/** Ends a script's failure path: what went wrong, then the command that helps. */
export class CommandError extends Error {}

/** Runs `file` with its output passed on; returns the exit status. */
export function run(file, args, options = {}) {
  const result = spawnSync(file, args, { cwd: root, stdio: "inherit", ...options });
  if (result.error) throw new CommandError(`${file} could not be started: ${result.error.message}`);
  return result.status ?? 1;
}

/** Runs `file` quietly; returns its status and all it printed. */
export function capture(file, args, options = {}) {
  const result = spawnSync(file, args, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28, ...options });
  return { status: result.status ?? 1, output: `${result.stdout ?? ""}${result.stderr ?? ""}` };
}

export function isOnPath(program) {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).error === undefined;
}

/** Was the script at `moduleUrl` the one that node was asked to run? */
export function isMain(moduleUrl) {
  return process.argv[1] === fileURLToPath(moduleUrl);
}

/** Runs a script's main function; a CommandError is printed without a stack. */
export async function main(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
