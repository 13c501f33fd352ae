import { appendFileSync } from "node:fs";
import type { WriteStream } from "node:tty";
import { stripVTControlCharacters } from "node:util";

import { fileErrorReason } from "../files.js";

/** Where a command writes, and what that place can show. */
export class Terminal {
  readonly isInteractive: boolean;
  readonly #colors: boolean;
  #line = "";
  #logPath: string | undefined;

  constructor(
    private readonly out: NodeJS.WritableStream & Partial<Pick<WriteStream, "isTTY" | "columns">>,
    private readonly errors: NodeJS.WritableStream = process.stderr,
  ) {
    this.isInteractive = out.isTTY === true;
    this.#colors = this.isInteractive && (process.env["NO_COLOR"] ?? "") === "";
  }

  /** From now on, what is printed goes to a file too, without colours. */
  logTo(path: string): void {
    this.#logPath = path;
  }

  print(text = ""): void {
    this.show(text);
    this.log(text);
  }

  /** Prints an error, a warning or a note beside the output proper. */
  warn(text: string): void {
    this.clearStatus();
    this.errors.write(`${text}\n`);
    this.log(text);
  }

  /** Prints, but not to the log. */
  show(text: string): void {
    this.clearStatus();
    this.out.write(`${text}\n`);
  }

  /** Writes to the log alone. A log that cannot be written, on a full disk say, stops nothing else. */
  log(text: string): void {
    if (this.#logPath === undefined) return;
    try {
      appendFileSync(this.#logPath, `${stripVTControlCharacters(text)}\n`);
    } catch (error) {
      const path = this.#logPath;
      this.#logPath = undefined;
      this.warn(`warning: ${path} cannot be written: ${fileErrorReason(error) ?? String(error)}`);
    }
  }

  /** Writes text as it comes, without a line end. */
  stream(text: string): void {
    this.out.write(text);
  }

  /** A heading above a block. */
  heading(text: string): void {
    this.print();
    this.print(this.bold(text));
  }

  /** Two columns: names, then values. */
  pairs(rows: readonly (readonly [name: string, value: string])[]): void {
    const width = Math.max(...rows.map(([name]) => name.length));
    for (const [name, value] of rows) this.print(`  ${this.dim(name.padEnd(width))}  ${value}`);
  }

  /** A table with a header line; columns are right-aligned but the first. */
  table(header: readonly string[], rows: readonly (readonly string[])[]): void {
    const widths = header.map((title, column) =>
      Math.max(title.length, ...rows.map((row) => (row[column] ?? "").length)),
    );
    const line = (cells: readonly string[]): string =>
      `  ${cells
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("  ")}`;
    this.print(this.dim(line(header)));
    for (const row of rows) this.print(line(row));
  }

  /** Shows a line that the next output replaces. Only where that is possible. */
  status(text: string): void {
    if (!this.isInteractive) return;
    const line = text.slice(0, (this.out.columns ?? 80) - 1);
    if (line === this.#line) return;
    this.out.write(`\r\u001b[2K${line}`);
    this.#line = line;
  }

  clearStatus(): void {
    if (this.#line === "") return;
    this.out.write("\r\u001b[2K");
    this.#line = "";
  }

  bold(text: string): string {
    return this.#styled(text, 1);
  }

  dim(text: string): string {
    return this.#styled(text, 2);
  }

  green(text: string): string {
    return this.#styled(text, 32);
  }

  #styled(text: string, code: number): string {
    return this.#colors ? `\u001b[${String(code)}m${text}\u001b[0m` : text;
  }
}

/** `[#####.....]` */
export function bar(fraction: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  return `[${"#".repeat(full)}${".".repeat(width - full)}]`;
}

/** `1:05` or `2:03:04`, rounded to seconds. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts.map((part, i) => (i === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

/** `1,234,567` */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** `1.5 MB` */
export function byteSize(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let [value, unit] = [bytes, 0];
  for (; value >= 1000 && unit < units.length - 1; unit += 1) value /= 1000;
  return `${unit === 0 ? String(value) : value.toPrecision(3)} ${units[unit] ?? ""}`;
}
