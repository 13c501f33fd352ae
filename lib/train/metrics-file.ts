import { type FileHandle, open, readFile } from "node:fs/promises";
import { DataFileError } from "../errors.js";
import { fileErrorReason } from "../files.js";
import type { Metrics, MetricsSink } from "./metrics.js";

const NEWLINE = 10;

/** A file with one JSON record per line. Records are only ever added. */
export class MetricsFile implements MetricsSink {
  private constructor(private readonly file: FileHandle) {}

  /** Opens a file, or makes it. A last line that was cut by a crash is ended, so that it harms no other. */
  static async open(path: string): Promise<MetricsFile> {
    const file = await open(path, "a+");
    const { size } = await file.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await file.read(last, 0, 1, size - 1);
    if (size > 0 && last[0] !== NEWLINE) await file.appendFile("\n");
    return new MetricsFile(file);
  }

  async write(metrics: Metrics): Promise<void> {
    await this.file.appendFile(`${JSON.stringify(metrics)}\n`);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/**
 * Reads the records of a {@link MetricsFile}, in the order of their steps: what a resumed run measured again counts
 * once, and lines that a crash has cut are left out.
 *
 * @throws {DataFileError} when the file cannot be read.
 */
export async function readMetrics(path: string): Promise<Metrics[]> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    const reason = `cannot be read: ${fileErrorReason(error) ?? String(error)}`;
    throw new DataFileError(path, undefined, reason, "pass the metrics.jsonl of a run");
  });
  let records: Metrics[] = [];
  for (const line of text.split("\n")) {
    const record = parseLine(line);
    if (record?.type === "start") records = records.filter(({ step }) => step <= record.step);
    if (record) records.push(record);
  }
  return records;
}

function parseLine(line: string): Metrics | undefined {
  try {
    return (JSON.parse(line) as Metrics | null) ?? undefined;
  } catch {
    return undefined;
  }
}
