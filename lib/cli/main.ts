#!/usr/bin/env node
import { HyperRouterError } from "../errors.js";
import { suggest } from "../options.js";
import { evaluateCommand } from "./commands/evaluate.js";
import { generateCommand } from "./commands/generate.js";
import { trainCommand } from "./commands/train.js";
import { Terminal } from "./terminal.js";
import { UsageError } from "./usage.js";

/** A command of the command line. */
export interface Command {
  name: string;
  summary: string;
  /** Shown by `--help`: usage, options, an example. */
  help: string;
  run(args: string[], terminal: Terminal): Promise<void>;
}

const commands: Command[] = [trainCommand, evaluateCommand, generateCommand];

const overview = `hyperrouter: train and run sparse mixture-of-experts language models

Usage: npm start -- [command] [options]

${commands.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`).join("\n")}

Without a command: train. "npm start -- <command> --help" explains a command.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`;

async function main(args: string[]): Promise<void> {
  const terminal = new Terminal(process.stdout);
  const [first] = args;
  if (first === "--help" || first === "-h" || first === "help") {
    terminal.print(overview);
    return;
  }
  const named = first !== undefined && !first.startsWith("-");
  const command = named ? commands.find(({ name }) => name === first) : trainCommand;
  if (!command) {
    const meant = suggest(
      first ?? "",
      commands.map(({ name }) => name),
    );
    throw new UsageError(
      `there is no command "${first ?? ""}"`,
      meant === undefined ? "see --help" : `did you mean "${meant}"?`,
    );
  }
  const rest = named ? args.slice(1) : args;
  if (rest.includes("--help") || rest.includes("-h")) terminal.print(command.help);
  else await command.run(rest, terminal);
}

main(process.argv.slice(2)).catch((error: unknown) => {
  if (error instanceof HyperRouterError) {
    process.stderr.write(`\nerror: ${error.message}\n`);
  } else {
    process.stderr.write(`\n${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  }
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
