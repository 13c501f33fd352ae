import { CheckpointError } from "../errors.js";
import { checkInteger } from "../options.js";
import { type Snapshot, writeCheckpoint } from "./checkpoint.js";
import { CheckpointFolder } from "./checkpoint-folder.js";
import type { CheckpointEvent } from "./events.js";

export interface CheckpointOptions {
  folder: string;
  /** Updates between checkpoints. Default: only the best ones and the last. */
  every?: number;
  /** How many of the latest to keep, besides the best. Default 2. */
  keepLast?: number;
  /** Settings to keep in the file, and to compare when it is resumed: any JSON. */
  config?: unknown;
}

/** Writes checkpoints while training goes on, one at a time. */
export class CheckpointWriter {
  readonly folder: CheckpointFolder;
  readonly config: unknown;
  readonly #every: number;
  readonly #keepLast: number;
  /** Step of the newest checkpoint that is written or being written. */
  savedAt = 0;
  #writing: Promise<void> = Promise.resolve();
  #finished: CheckpointEvent[] = [];

  constructor({ folder, every = Infinity, keepLast = 2, config = null }: CheckpointOptions) {
    if (every !== Infinity) checkInteger("checkpoints.every", every, 1);
    checkInteger("checkpoints.keepLast", keepLast, 1);
    this.folder = new CheckpointFolder(folder);
    this.config = config;
    this.#every = every;
    this.#keepLast = keepLast;
  }

  isDue(updates: number): boolean {
    return updates > 0 && updates % this.#every === 0 && this.savedAt !== updates;
  }

  /**
   * Starts to write a snapshot, once the one before is written.
   *
   * @param capture Makes the snapshot; awaited.
   */
  async save(capture: () => Promise<Snapshot>): Promise<void> {
    await this.#writing;
    const start = performance.now();
    const snapshot = await capture();
    this.savedAt = snapshot.progress.updates;
    this.#writing = this.#write(snapshot, start);
  }

  /** Takes the events of writes that are finished. */
  takeFinished(): CheckpointEvent[] {
    return this.#finished.splice(0);
  }

  /** Waits until nothing is being written. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  async #write(snapshot: Snapshot, start: number): Promise<void> {
    const step = snapshot.progress.updates;
    const path = this.folder.pathOf(step);
    let error: CheckpointError | null = null;
    try {
      await writeCheckpoint(path, snapshot);
      await this.folder.prune(this.#keepLast, snapshot.progress);
    } catch (cause) {
      error = asCheckpointError(path, cause);
      this.savedAt = 0;
    }
    const seconds = (performance.now() - start) / 1000;
    this.#finished.push({ type: "checkpoint", step, path, error, seconds });
  }
}

function asCheckpointError(path: string, cause: unknown): CheckpointError {
  if (cause instanceof CheckpointError) return cause;
  const reason = `cannot be written: ${cause instanceof Error ? cause.message : String(cause)}`;
  return new CheckpointError(path, undefined, reason, "check the folder; earlier checkpoints are intact");
}
