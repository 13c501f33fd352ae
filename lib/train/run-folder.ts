import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, ConfigError, DataFileError } from "../errors.js";
import { fileErrorReason, writeAtomically, writeFully } from "../files.js";
import { CheckpointFolder } from "./checkpoint-folder.js";
import { parseConfig, type RunConfig } from "./config.js";
import { MetricsRecorder, type MetricsSink } from "./metrics.js";
import { MetricsFile } from "./metrics-file.js";
import { TensorBoardFile } from "./tensorboard.js";

/** A checkpoint of a run: the last, or of the lowest validation loss with the base number of experts or with all. */
export const checkpointChoices = ["latest", "best", "best-dense"] as const;

export type CheckpointChoice = (typeof checkpointChoices)[number];

/**
 * The folder of a training run:
 *
 *     config.json            settings
 *     metrics.jsonl          what was measured, see `Metrics`
 *     log.txt                what the command line printed
 *     checkpoints/           see `CheckpointFolder`
 *     events.out.tfevents.*  the metrics once more for TensorBoard, where asked for
 *
 * @example
 * const folder = await RunFolder.create("runs/mine", parseConfig({ train: { steps: 100 } }));
 * const run = await openRun(folder.config, { checkpoints: folder.checkpoints.path });
 */
export class RunFolder {
  readonly checkpoints: CheckpointFolder;
  readonly metricsPath: string;
  readonly logPath: string;

  /** Names a folder; nothing is read or written yet. */
  constructor(
    readonly path: string,
    readonly config: RunConfig,
  ) {
    this.checkpoints = new CheckpointFolder(join(path, "checkpoints"));
    this.metricsPath = join(path, "metrics.jsonl");
    this.logPath = join(path, "log.txt");
  }

  /** Whether a path is the folder of a run. */
  static async exists(path: string): Promise<boolean> {
    return stat(configPath(path)).then(
      () => true,
      () => false,
    );
  }

  /** Begins a run. @throws {ConfigError} when the folder holds one already. */
  static async create(path: string, config: RunConfig): Promise<RunFolder> {
    if (await RunFolder.exists(path)) {
      throw new ConfigError(
        "folder",
        path,
        `${path} holds a run already`,
        "resume it, or use another folder",
      );
    }
    const folder = new RunFolder(path, config);
    await folder.save();
    return folder;
  }

  /** Opens the folder of a run. @throws {DataFileError} when it holds none. */
  static async open(path: string): Promise<RunFolder> {
    const json = await readJsonObject(configPath(path), "pass the folder of a run, such as runs/brown");
    return new RunFolder(path, parseConfig(json));
  }

  /** Makes the folder and writes the settings into it, in place of those that are there. */
  async save(): Promise<void> {
    const path = configPath(this.path);
    try {
      await mkdir(this.path, { recursive: true });
      const text = Buffer.from(`${JSON.stringify(this.config, null, 2)}\n`);
      await writeAtomically(path, (handle) => writeFully(handle, text, 0));
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  /** Opens the files that the metrics go to. @throws {DataFileError} when they cannot be written. */
  async openMetrics(): Promise<MetricsRecorder> {
    try {
      const sinks: MetricsSink[] = [await MetricsFile.open(this.metricsPath)];
      if (this.config.log.tensorboard) sinks.push(await TensorBoardFile.create(this.path));
      return new MetricsRecorder(sinks, this.config.log.every);
    } catch (error) {
      throw unwritable(this.metricsPath, error);
    }
  }

  /** Path of a checkpoint. @throws {CheckpointError} when there is none of that kind. */
  async checkpoint(choice: CheckpointChoice = "latest"): Promise<string> {
    const { checkpoints } = this;
    const path = await (choice === "latest"
      ? checkpoints.latest()
      : checkpoints.best(choice === "best" ? "base" : "dense"));
    if (path !== null) return path;
    const fix = "train for longer, with evaluation.every for best checkpoints, or choose another";
    throw new CheckpointError(checkpoints.path, undefined, `holds no checkpoint: ${choice}`, fix);
  }
}

/** Reads a file that holds a JSON object. @throws {DataFileError} when it cannot be read or holds something else. */
export async function readJsonObject(path: string, fix: string): Promise<Record<string, unknown>> {
  try {
    const json = JSON.parse(await readFile(path, "utf8")) as unknown;
    if (typeof json === "object" && json !== null && !Array.isArray(json))
      return json as Record<string, unknown>;
  } catch (error) {
    const reason = fileErrorReason(error) ?? (error as Error).message;
    throw new DataFileError(path, undefined, `cannot be read: ${reason}`, fix);
  }
  throw new DataFileError(path, undefined, "holds no JSON object", fix);
}

function unwritable(path: string, error: unknown): DataFileError {
  const reason = `cannot be written: ${fileErrorReason(error) ?? String(error)}`;
  return new DataFileError(path, undefined, reason, "use a folder that can be written");
}

function configPath(path: string): string {
  return join(path, "config.json");
}
