import { type ChildProcessByStdio, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

import { tinyConfig, tinyTextFile } from "./tiny-run.js";

export const root = fileURLToPath(new URL("../..", import.meta.url));
const main = join(root, "dist", "cli", "main.js");

/** How a command ended and what it printed. */
export interface CommandResult {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** A command that is running. */
export interface RunningCommand {
  child: ChildProcessByStdio<null, Readable, Readable>;
  /** Waits until it has printed something, on either stream. */
  printed(pattern: RegExp): Promise<void>;
  ended: Promise<CommandResult>;
}

/** Starts a program, by default in the checkout. */
export function startProgram(file: string, args: readonly string[], cwd = root): RunningCommand {
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const result: CommandResult = { status: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (result.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (result.stderr += chunk.toString()));
  const ended = new Promise<CommandResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => {
      resolve({ ...result, status });
    });
  });
  const printed = async (pattern: RegExp): Promise<void> => {
    const found = (): boolean => pattern.test(result.stdout) || pattern.test(result.stderr);
    while (!found() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
    if (!found())
      throw new Error(`ended without printing ${String(pattern)}: ${result.stdout}${result.stderr}`);
  };
  return { child, printed, ended };
}

/** Starts the command line as built into dist/. */
export function startCommand(args: readonly string[], cwd = root): RunningCommand {
  return startProgram(process.execPath, [main, ...args], cwd);
}

/** Runs the command line as built into dist/. */
export function runCommand(args: readonly string[], cwd = root): Promise<CommandResult> {
  return startCommand(args, cwd).ended;
}

/** Writes settings of a model that trains in no time. @returns the path of the JSON file. */
export async function tinyConfigFile(overrides: Parameters<typeof tinyConfig>[1] = {}): Promise<string> {
  const text = await tinyTextFile();
  const path = `${text}.json`;
  await writeFile(path, JSON.stringify(tinyConfig(text, overrides)));
  return path;
}
