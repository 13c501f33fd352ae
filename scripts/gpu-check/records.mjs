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

/** All or nothing, and at once: the last one is written while the process exits, which writeAtomically() cannot. */
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
    const known = reports
      .flatMap(({ parts }) => parts)
      .filter((record) => record.emulated === emulated && record.quick === quick)
      .sort((a, b) => a.date.localeCompare(b.date));
    for (const record of known) this.#add(record);
  }

  /** Replaces the record of a part, unless only the older one has results: the log tells what has happened since. */
  save(record) {
    this.#add(record);
    writeJson(this.file, this.report());
  }

  #add(record) {
    const older = this.#records.find(({ part }) => part === record.part);
    if (record.results === null && (older?.results ?? null) !== null) return;
    this.#records = [...this.#records.filter((other) => other !== older), record];
  }

  /** null while there is no record. */
  report() {
    return this.#records.length > 0 ? this.merge(this.#records) : null;
  }
}
