import { parseArgs, type ParseArgsConfig } from "node:util";

import { HyperRouterError } from "../errors.js";
import { suggest } from "../options.js";

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
    if (error instanceof UsageError || !(error instanceof TypeError)) throw error;
    const unknown = /'(-[^']+)'/.exec(error.message)?.[1];
    const meant = suggest(unknown?.replace(/^-+/, "") ?? "", Object.keys(options));
    throw new UsageError(
      error.message.split(". ")[0] ?? error.message,
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
