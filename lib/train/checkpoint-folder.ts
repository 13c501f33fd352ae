import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { CheckpointError } from "../errors.js";
import { fileErrorReason } from "../files.js";
import { checkpointInfo, type Progress } from "./checkpoint.js";

const filePattern = /^step-(\d+)\.safetensors$/;
const temporaryPattern = /^step-\d+\.safetensors\.[0-9a-f]+\.tmp$/;

/**
 * The checkpoints of one run: files `step-00001200.safetensors`. There is no index that could be out of step with
 * them. A file that exists is complete, so the latest is the one with the highest number; and the latest knows which
 * steps were the best, whose files are kept.
 */
export class CheckpointFolder {
  constructor(readonly path: string) {}

  pathOf(step: number): string {
    return join(this.path, `step-${String(step).padStart(8, "0")}.safetensors`);
  }

  /** Steps that have a checkpoint, ascending; none when there is no such folder. */
  async steps(): Promise<number[]> {
    const names = await this.#names();
    const steps = names.map((name) => filePattern.exec(name)?.[1]).filter((digits) => digits !== undefined);
    return steps.map(Number).sort((a, b) => a - b);
  }

  /** Path of the latest checkpoint; null when there is none. */
  async latest(): Promise<string | null> {
    const step = (await this.steps()).at(-1);
    return step === undefined ? null : this.pathOf(step);
  }

  /**
   * Path of the checkpoint with the lowest validation loss, with the base number of experts or with all of them; null
   * when there was no evaluation yet, or that checkpoint could not be written.
   */
  async best(which: "base" | "dense" = "base"): Promise<string | null> {
    const steps = await this.steps();
    const latest = steps.at(-1);
    if (latest === undefined) return null;
    const { progress } = await checkpointInfo(this.pathOf(latest));
    const step = progress.validation?.best[which]?.step;
    return step !== undefined && steps.includes(step) ? this.pathOf(step) : null;
  }

  /**
   * Makes the folder ready for a run that has done `updates`: removes what a killed run left half-written.
   *
   * @throws {CheckpointError} when it holds later checkpoints, which are those of another run.
   */
  async prepare(updates: number): Promise<void> {
    await mkdir(this.path, { recursive: true }).catch((error: unknown) => {
      const reason = `cannot be made: ${fileErrorReason(error) ?? String(error)}`;
      throw new CheckpointError(this.path, undefined, reason, "use a folder that can be written");
    });
    const last = (await this.steps()).at(-1) ?? 0;
    if (last > updates) {
      throw new CheckpointError(
        this.path,
        undefined,
        `holds checkpoints up to step ${String(last)}, and this run is at step ${String(updates)}`,
        "resume from the latest, use another folder, or remove those files",
      );
    }
    await this.#remove((await this.#names()).filter((name) => temporaryPattern.test(name)));
  }

  /** Removes all checkpoints but the last `keepLast` and the best ones. */
  async prune(keepLast: number, { validation }: Progress): Promise<void> {
    const steps = await this.steps();
    const kept = new Set(steps.slice(-keepLast));
    for (const best of Object.values(validation?.best ?? {})) if (best) kept.add(best.step);
    const rest = steps.filter((step) => !kept.has(step));
    await Promise.all(rest.map((step) => rm(this.pathOf(step), { force: true })));
  }

  async #names(): Promise<string[]> {
    return readdir(this.path).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      const reason = `cannot be read: ${fileErrorReason(error) ?? String(error)}`;
      throw new CheckpointError(this.path, undefined, reason, "check the path and its permissions");
    });
  }

  async #remove(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => rm(join(this.path, name), { force: true })));
  }
}
