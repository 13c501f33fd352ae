// What is known: <out>/report.json, which is always complete, whatever ends the check.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CommandError } from "../command.mjs";

/** null if there is no such file, or none that a program has written to its end. */
export function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return null;
  }
}

export function writeJson(file, value, indent = 0) {
  writeFileSync(`${file}.tmp`, `${JSON.stringify(value, null, indent)}\n`);
  renameSync(`${file}.tmp`, file);
}

/** The latest record of each part. */
export class Records {
  #records = [];

  /** @param from Reports of other runs, whose records count unless there are later ones. */
  constructor({ out, from, emulated, quick }, merge) {
    mkdirSync(out, { recursive: true });
    this.file = join(out, "report.json");
    this.merge = merge;
    const others = from.map((file) => {
      const report = readJson(file);
      if (report === null)
        throw new CommandError(`${file} is no report: pass a report.json that gpu-check has left`);
      return report;
    });
    const reports = [...others, readJson(this.file) ?? { parts: [] }];
    this.#records = reports
      .flatMap(({ parts }) => parts)
      .filter((record) => record.emulated === emulated && record.quick === quick)
      .sort((a, b) => a.date.localeCompare(b.date));
  }

  /** Replaces the record of a part. */
  save(record) {
    this.#records = [...this.#records.filter(({ part }) => part !== record.part), record];
    writeJson(this.file, this.report());
  }

  /** null while there is no record. */
  report() {
    return this.#records.length > 0 ? this.merge(this.#records) : null;
  }
}
