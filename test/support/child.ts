import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const typescript = new URL("../../scripts/typescript.mjs", import.meta.url).href;

/** How a child process ended and what it printed. */
export interface ChildResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Runs a TypeScript file in a Node process of its own. */
export function runChild(
  script: URL,
  {
    args = [],
    env = {},
    flags = [],
  }: { args?: string[]; env?: Record<string, string>; flags?: string[] } = {},
): Promise<ChildResult> {
  const command = [...flags, "--import", typescript, fileURLToPath(script), ...args];
  const child = spawn(process.execPath, command, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      resolve({ code, signal, stdout, stderr });
    });
  });
}
