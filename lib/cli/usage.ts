import { parseArgs, type ParseArgsConfig } from "node:util";

import { HyperRouterError } from "../errors.js";
import { suggest } from "../options.js";
import type { Terminal } from "./terminal.js";

/** How the program was called, for messages that name commands. */
export const program = process.env["npm_lifecycle_event"] === "start" ? "npm start --" : "npx hyperrouter";

/** A command line of this program, quoted for a shell where needed. */
export function commandLine(...words: readonly string[]): string {
  const quoted = words.map((word) =>
    /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
  );
  return [program, ...quoted].join(" ");
}

/** A command of the command line. */
export interface Command {
  /** One word, or two. */
  name: string;
  summary: string;
  /** Shown by `--help`: usage, options, an example. */
  help: string;
  run(args: string[], terminal: Terminal): Promise<void>;
}

/** A command line that does not say what to do. */
export class UsageError extends HyperRouterError {
  constructor(reason: string, fix: string) {
    super("USAGE", reason, fix);
  }
}

type Options = NonNullable<ParseArgsConfig["options"]>;
type Parsed<T extends Options> = ReturnType<
  typeof parseArgs<{ args: string[]; options: T; allowPositionals: true; strict: true }>
>;

/**
 * `parseArgs` with our errors.
 *
 * @throws {UsageError} for an unknown option (with what was probably meant) or a missing value.
 */
export function parseUsage<const T extends Options>(
  args: string[],
  options: T,
  positionals: number,
): Parsed<T> {
  try {
    const parsed = parseArgs({ args, options, allowPositionals: true, strict: true });
    if (parsed.positionals.length > positionals) {
      throw new UsageError(`unexpected argument "${parsed.positionals[positionals] ?? ""}"`, "see --help");
    }
    return parsed;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code?.startsWith("ERR_PARSE_ARGS") !== true) throw error;
    const unknown = /'(-[^']+)'/.exec(message)?.[1];
    const meant = suggest(unknown?.replace(/^-+/, "") ?? "", Object.keys(options));
    throw new UsageError(
      message.split(". ")[0] ?? message,
      meant === undefined ? "see --help" : `did you mean "--${meant}"?`,
    );
  }
}

/** @throws {UsageError} unless the text is a number. */
export function numberOption(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new UsageError(`--${name} is "${text}"`, `pass a number: --${name} 10`);
}

/** @throws {UsageError} unless the text is one of the choices; says which was probably meant. */
export function choiceOption<T extends string>(name: string, text: string, choices: readonly T[]): T;
export function choiceOption<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined;
export function choiceOption<T extends string>(
  name: string,
  text: string | undefined,
  choices: readonly T[],
): T | undefined {
  const choice = choices.find((candidate) => candidate === text);
  if (choice !== undefined || text === undefined) return choice;
  const meant = suggest(text, choices);
  const fix = meant === undefined ? `use one of ${choices.join(", ")}` : `did you mean "${meant}"?`;
  throw new UsageError(`${name} is "${text}"`, fix);
}

/** @throws {UsageError} unless the argument was given. */
export function required(what: string, value: string | undefined, example: string): string {
  if (value !== undefined) return value;
  throw new UsageError(`no ${what} is named`, `${program} ${example}`);
}

/** Leaves out what is undefined. */
export function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
