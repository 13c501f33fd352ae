import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, ConfigError, DataFileError } from "../errors.js";
import { fileErrorReason, writeAtomically, writeFully } from "../files.js";
import { CheckpointFolder } from "./checkpoint-folder.js";
import { parseConfig, type RunConfig } from "./config.js";
import { MetricsRecorder, type MetricsSink } from "./metrics.js";
import { MetricsFile } from "./metrics-file.js";
import { TensorBoardFile } from "./tensorboard.js";

/** A checkpoint of a run: of the lowest validation loss with the base number of experts or with all, or the last. */
export const checkpointChoices = ["best", "best-dense", "latest"] as const;

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

  private constructor(
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
    await writeConfig(path, config);
    return new RunFolder(path, config);
  }

  /**
   * Opens the folder of a run.
   *
   * @param change Gives other settings, which replace those in the folder.
   * @throws {DataFileError} when it holds no run.
   */
  static async open(path: string, change?: (config: RunConfig) => RunConfig): Promise<RunFolder> {
    const fix = "pass the folder of a run, such as runs/brown";
    const config = parseConfig(await readJsonObject(configPath(path), fix));
    if (!change) return new RunFolder(path, config);
    const changed = change(config);
    await writeConfig(path, changed);
    return new RunFolder(path, changed);
  }

  /** Opens the files that the metrics go to. */
  async openMetrics(): Promise<MetricsRecorder> {
    const sinks: MetricsSink[] = [await MetricsFile.open(this.metricsPath)];
    if (this.config.log.tensorboard) sinks.push(await TensorBoardFile.create(this.path));
    return new MetricsRecorder(sinks, this.config.log.every);
  }

  /**
   * Path of a checkpoint. Default: the best; the latest of a run without evaluations.
   *
   * @throws {CheckpointError} when there is none.
   */
  async checkpoint(choice?: CheckpointChoice): Promise<string> {
    const best =
      choice === "latest" ? null : await this.checkpoints.best(choice === "best-dense" ? "dense" : "base");
    const path =
      best ?? (choice === undefined || choice === "latest" ? await this.checkpoints.latest() : null);
    if (path !== null) return path;
    const reason = choice === undefined ? "holds no checkpoint" : `holds no ${choice} checkpoint`;
    throw new CheckpointError(
      this.checkpoints.path,
      undefined,
      reason,
      "train for longer, or choose another run",
    );
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

function configPath(path: string): string {
  return join(path, "config.json");
}

async function writeConfig(path: string, config: RunConfig): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    const text = Buffer.from(`${JSON.stringify(config, null, 2)}\n`);
    await writeAtomically(configPath(path), (handle) => writeFully(handle, text, 0));
  } catch (error) {
    const reason = `cannot be written: ${fileErrorReason(error) ?? String(error)}`;
    throw new DataFileError(configPath(path), undefined, reason, "use a folder that can be written");
  }
}
