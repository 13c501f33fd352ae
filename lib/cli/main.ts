#!/usr/bin/env node
import { ConfigError, HyperRouterError } from "../errors.js";
import { suggest } from "../options.js";
import { benchCommand } from "./commands/bench.js";
import { dataPrepareCommand } from "./commands/data-prepare.js";
import { evaluateCommand } from "./commands/evaluate.js";
import { exportCommand } from "./commands/export.js";
import { generateCommand } from "./commands/generate.js";
import { infoCommand } from "./commands/info.js";
import { resumeCommand } from "./commands/resume.js";
import { trainCommand } from "./commands/train.js";
import { Terminal } from "./terminal.js";
import { type Command, program, UsageError } from "./usage.js";

const commands: Command[] = [
  ...[trainCommand, resumeCommand, evaluateCommand, generateCommand, exportCommand],
  ...[dataPrepareCommand, infoCommand, benchCommand],
];

const overview = `hyperrouter: train and run sparse mixture-of-experts language models

Usage: ${program} [command] [options]

${commands.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join("\n")}

Without a command: train. "${program} <command> --help" explains a command.

Exit status: 0 done; 1 failed; 2 wrong usage: a command, option or setting that does not exist or is not allowed;
130 interrupted by Ctrl-C.

Example: ${program} train brown --set train.steps=200`;

async function main(args: string[], terminal: Terminal): Promise<void> {
  const [first = ""] = args;
  if (["--help", "-h", "help"].includes(first)) {
    terminal.print(overview);
    return;
  }
  const { command, rest } =
    first === "" || first.startsWith("-") ? { command: trainCommand, rest: args } : find(args);
  if (rest.includes("--help") || rest.includes("-h")) terminal.print(command.help);
  else await command.run(rest, terminal);
}

/** The command that the first words name, and what comes after. */
function find(args: string[]): { command: Command; rest: string[] } {
  for (const command of commands) {
    const words = command.name.split(" ");
    if (words.every((word, i) => word === args[i])) return { command, rest: args.slice(words.length) };
  }
  const [first = "", second = ""] = args;
  const names = commands.map(({ name }) => name);
  const meant =
    suggest(`${first} ${second}`, names) ??
    suggest(first, names) ??
    names.find((name) => name.startsWith(`${first} `));
  throw new UsageError(
    `there is no command "${first}"`,
    meant === undefined ? "see --help" : `did you mean "${meant}"?`,
  );
}

function report(error: unknown, terminal: Terminal): void {
  if (error instanceof HyperRouterError) terminal.warn(`\nerror: ${error.message}`);
  else terminal.warn(`\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exitCode = error instanceof UsageError || error instanceof ConfigError ? 2 : 1;
}

// Whoever reads the output may stop early: hyperrouter generate ... | head
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});
const terminal = new Terminal(process.stdout);
main(process.argv.slice(2), terminal).catch((error: unknown) => {
  report(error, terminal);
});
