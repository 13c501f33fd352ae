import { readFile } from "node:fs/promises";

import { deviceNames, openDevice } from "../../device.js";
import { nativePath } from "../../native.js";
import type { Terminal } from "../terminal.js";
import { type Command, parseUsage, program } from "../usage.js";

const help = `Usage: ${program} info [options]

Says what this installation is and what it can run on: for bug reports, and for the names that the setting device takes.

  --json   print it as JSON

Example: ${program} info`;

/** Why no GPU is used. */
const cudaReason = "this build has no CUDA kernels; everything runs on the CPU";

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values } = parseUsage(args, { json: { type: "boolean", default: false } }, 0);
  const info = {
    version: await packageVersion(),
    platform: `${process.platform}-${process.arch}`,
    libc: libc(),
    node: process.version,
    binary: nativePath(),
    devices: deviceNames().map((name) => {
      const { description, threads, float } = openDevice(name);
      return { name, description, threads, float };
    }),
    cuda: { available: false, reason: cudaReason },
  };
  if (values.json) {
    terminal.print(JSON.stringify(info));
    return;
  }
  const { devices, cuda, ...rows } = info;
  terminal.pairs([...Object.entries(rows), ["cuda", `off: ${cuda.reason}`]]);
  terminal.heading("Devices");
  terminal.pairs(devices.map(({ name, description, float }) => [name, `${description}, ${float}`]));
}

async function packageVersion(): Promise<string> {
  const text = await readFile(new URL("../../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

function libc(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const { glibcVersionRuntime } = header;
  if (glibcVersionRuntime !== undefined) return `glibc ${glibcVersionRuntime}`;
  return process.platform === "linux" ? "not glibc" : "of the system";
}

export const infoCommand: Command = { name: "info", summary: "version, platform and devices", help, run };
