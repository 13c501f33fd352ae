import type { BatchCursor, LmBatch, LmBatches } from "../data/batches.js";
import { ConfigError, ValueError } from "../errors.js";
import { disposeMemory, type Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import type { Optimizer } from "../optim/optimizer.js";
import { type LrSchedule, PlateauLr } from "../optim/schedule.js";
import { checkInteger, rejectUnknownKeys } from "../options.js";
import {
  captureTensors,
  checkValues,
  infoOf,
  type Progress,
  restoreTensors,
  type Snapshot,
} from "./checkpoint.js";
import { type CheckpointOptions, CheckpointWriter } from "./checkpoint-writer.js";
import {
  type CheckpointEvent,
  type EndEvent,
  type EvaluationEvent,
  notify,
  type StepEvent,
  type TrainCallbacks,
  type TrainEvent,
} from "./events.js";
import { openSaved } from "./saved-file.js";
import { trainStep } from "./step.js";
import { Validation, type ValidationOptions } from "./validation.js";

export interface TrainerOptions {
  model: TransformerXL;
  optimizer: Optimizer;
  batches: LmBatches;
  /** Learning rate of the next update, from the number of completed ones; or one that follows the validation loss. */
  lr: LrSchedule | PlateauLr;
  /** Experts per token in the next update. Default: the model's, unchanged. */
  topK?: (completedUpdates: number) => number;
  /** Global gradient norm above which gradients are scaled down. Default 0.25; 0: never. */
  maxGradNorm?: number;
  /** Splits each batch into this many groups of columns, run one after the other; gradients add up. Default 1. */
  accumulation?: number;
  /** Freezes the routers after this many updates. Default: never. */
  freezeRoutersAt?: number;
  /** Evaluates now and then. Default: never. */
  validation?: ValidationOptions;
  /** Writes checkpoints: every so often, when an evaluation is the best so far, and at the end. Default: none. */
  checkpoints?: CheckpointOptions;
}

export interface RunOptions {
  /** Stops after this many updates in all, those of earlier runs included. Default: no limit. */
  steps?: number;
  /** Begins no update after this many seconds. Default: no limit. */
  maxSeconds?: number;
  /** Finishes the running update, writes a checkpoint, then ends the loop. */
  signal?: AbortSignal | undefined;
}

const optionNames: readonly (keyof TrainerOptions)[] = [
  ...(["model", "optimizer", "batches", "lr", "topK", "maxGradNorm", "accumulation"] as const),
  ...(["freezeRoutersAt", "validation", "checkpoints"] as const),
];
const runOptionNames: readonly (keyof RunOptions | keyof TrainCallbacks)[] = [
  ...(["steps", "maxSeconds", "signal", "onStep", "onEvaluation", "onCheckpoint", "onEnd"] as const),
];

/**
 * Trains a language model: batches in, events out.
 *
 * Everything that decides what comes next is a field or belongs to the model and the optimiser, and is part of a
 * checkpoint: a trainer that {@link restore}s one goes on bit for bit.
 *
 * @example
 * const trainer = new Trainer({ model, optimizer, batches, lr: cosineLr({ lr: 1e-3, maxSteps: 1000 }) });
 * for await (const event of trainer.run({ steps: 1000 })) if (event.type === "step") console.log(event.loss);
 */
export class Trainer {
  /** Where the next batch starts. */
  cursor: BatchCursor = { epoch: 0, position: 0 };
  /** Hidden states carried to the next batch, one per group of columns. */
  memories: (Memory | null)[] = [];
  readonly #options: Required<Pick<TrainerOptions, "maxGradNorm" | "accumulation">> & TrainerOptions;
  readonly #validation: Validation | null;
  readonly #checkpoints: CheckpointWriter | null;
  #isRunning = false;

  /** @throws {ConfigError} for an option that is unknown, out of range or at odds with another. */
  constructor(options: TrainerOptions) {
    rejectUnknownKeys(options, optionNames);
    this.#options = { maxGradNorm: 0.25, accumulation: 1, ...options };
    checkInteger("accumulation", this.#options.accumulation, 1);
    const { model, batches, lr, validation, checkpoints } = options;
    if (lr instanceof PlateauLr && !validation) {
      throw new ConfigError(
        "lr",
        "PlateauLr",
        "a learning rate that follows the validation loss needs a validation",
        "set validation, or use another schedule",
      );
    }
    this.#validation = validation ? new Validation(model, validation, batches.options.seqLen) : null;
    this.#checkpoints = checkpoints ? new CheckpointWriter(checkpoints) : null;
  }

  /**
   * Trains, as an iterator: the loop's body sees what is done before more is, and leaving the loop stops. A
   * checkpoint that is being written then is still finished.
   *
   * @throws {NonFiniteError} naming the first bad tensor, before it can reach the parameters.
   * @throws {CheckpointError} when the last checkpoint cannot be written. Others only report it in their event.
   */
  async *run(options: RunOptions & TrainCallbacks = {}): AsyncGenerator<TrainEvent, void, undefined> {
    rejectUnknownKeys(options, runOptionNames);
    if (this.#isRunning) {
      const fix = "wait until the other run has ended, or make a second trainer";
      throw new ValueError("Trainer.run", "this", "the trainer is running already", fix);
    }
    this.#isRunning = true;
    try {
      for await (const event of this.#events(options)) {
        await notify(options, event);
        yield event;
      }
    } finally {
      this.#isRunning = false;
    }
  }

  /** The same without a loop: callbacks see the events. @returns how the run ended. */
  async train(options: RunOptions & TrainCallbacks = {}): Promise<EndEvent> {
    let end: TrainEvent | undefined;
    for await (end of this.run(options));
    return end as EndEvent;
  }

  /**
   * Puts the trainer, its model and its optimiser into the state of a checkpoint.
   *
   * @throws {CheckpointError} naming every setting and tensor that differs, before anything changes.
   */
  async restore(
    path: string,
    {
      mayDiffer = [],
    }: {
      /** Settings whose values need not be those of the file: `train.steps`, or `evaluation` for all below it. */
      mayDiffer?: readonly string[];
    } = {},
  ): Promise<void> {
    const { model, optimizer, lr } = this.#options;
    const file = await openSaved(path, "checkpoint");
    try {
      const { progress, config } = infoOf(file);
      const expected = this.#checkpoints?.config ?? null;
      if (expected !== null) checkValues(path, "settings", config, expected, mayDiffer);
      checkValues(path, "data and optimiser", progress.layout, this.#layout());
      const memories = await restoreTensors(file, { model, optimizer });
      this.dispose();
      this.memories = memories;
      this.cursor = progress.cursor;
      optimizer.updates = progress.updates;
      for (const [purpose, stream] of model.randomStreams) {
        stream.calls = progress.randomCalls[purpose] ?? stream.calls;
      }
      if (model.routers) model.setTopK(progress.topK);
      if (this.#validation && progress.validation) this.#validation.state = progress.validation;
      if (lr instanceof PlateauLr && progress.plateau) lr.state = progress.plateau;
      if (this.#checkpoints) this.#checkpoints.savedAt = progress.updates;
    } finally {
      await file.close();
    }
  }

  /** Frees the memories. */
  dispose(): void {
    for (const memory of this.memories) disposeMemory(memory);
    this.memories = [];
  }

  async *#events({
    steps = Infinity,
    maxSeconds = Infinity,
    signal,
  }: RunOptions): AsyncGenerator<TrainEvent> {
    const { model, optimizer, batches } = this.#options;
    const begin = performance.now();
    const whyStop = (): EndEvent["reason"] | null => {
      if (signal?.aborted) return "aborted";
      if (this.#validation?.isOutOfPatience) return "patience";
      if (optimizer.updates >= steps) return "steps";
      return performance.now() - begin >= 1000 * maxSeconds ? "time" : null;
    };
    await this.#checkpoints?.folder.prepare(optimizer.updates);
    model.train();
    try {
      yield* this.#betweenUpdates(signal);
      let reason = whyStop();
      if (reason === null) {
        let start = performance.now();
        for await (const batch of batches.endless(this.cursor)) {
          yield await this.#update(batch, start);
          yield* this.#betweenUpdates(signal);
          reason = whyStop();
          if (reason !== null) break;
          start = performance.now();
        }
      }
      yield* this.#lastCheckpoint();
      yield { type: "end", step: optimizer.updates, reason: reason ?? "steps" };
    } finally {
      await this.#checkpoints?.idle();
    }
  }

  async #update(batch: LmBatch, start: number): Promise<StepEvent> {
    const { model, optimizer, lr, topK, maxGradNorm, accumulation, freezeRoutersAt } = this.#options;
    const completed = optimizer.updates;
    if (topK) model.setTopK(topK(completed));
    if (freezeRoutersAt !== undefined && completed >= freezeRoutersAt) model.freezeRouters();
    if (batch.cursor.position === 0) this.dispose();
    const rate = lr instanceof PlateauLr ? lr.rate(completed) : lr(completed);
    const { memories } = this;
    const step = await trainStep({ model, optimizer, lr: rate, maxGradNorm, accumulation, memories }, batch);
    this.cursor = batch.next;
    return { ...step, seconds: (performance.now() - start) / 1000 };
  }

  /** What falls due after an update: an evaluation, a checkpoint. Decided by state alone, so that a resumed run agrees. */
  async *#betweenUpdates(signal: AbortSignal | undefined): AsyncGenerator<EvaluationEvent | CheckpointEvent> {
    const { updates } = this.#options.optimizer;
    const evaluation = await this.#evaluateIfDue(updates, signal);
    const writer = this.#checkpoints;
    const isBest = evaluation !== null && (evaluation.isBest || evaluation.isBestDense);
    if (writer && (isBest || writer.isDue(updates))) await writer.save(() => this.#capture());
    if (evaluation) yield evaluation;
    yield* writer?.takeFinished() ?? [];
  }

  async #evaluateIfDue(updates: number, signal: AbortSignal | undefined): Promise<EvaluationEvent | null> {
    if (!this.#validation?.isDue(updates)) return null;
    try {
      const event = await this.#validation.run(updates, signal);
      if (this.#options.lr instanceof PlateauLr) this.#options.lr.evaluated(event.base.nats);
      return event;
    } catch (error) {
      if (signal?.aborted) return null; // a resumed run does it first
      throw error;
    }
  }

  async *#lastCheckpoint(): AsyncGenerator<CheckpointEvent> {
    const writer = this.#checkpoints;
    if (!writer) return;
    await writer.idle();
    if (writer.savedAt !== this.#options.optimizer.updates) await writer.save(() => this.#capture());
    await writer.idle();
    const events = writer.takeFinished();
    yield* events;
    const failure = events.at(-1)?.error;
    if (failure) throw failure;
  }

  async #capture(): Promise<Snapshot> {
    const { model, optimizer, lr } = this.#options;
    return {
      tensors: await captureTensors({ model, optimizer, memories: this.memories }),
      config: this.#checkpoints?.config ?? null,
      tokenizer: model.tokenizer,
      progress: {
        updates: optimizer.updates,
        cursor: this.cursor,
        randomCalls: Object.fromEntries([...model.randomStreams].map(([name, { calls }]) => [name, calls])),
        topK: model.topK,
        validation: this.#validation?.state ?? null,
        plateau: lr instanceof PlateauLr ? lr.state : null,
        layout: this.#layout(),
      },
    };
  }

  #layout(): Progress["layout"] {
    const { batches, accumulation, optimizer } = this.#options;
    const { batchSize } = batches.options;
    const { columnLength } = batches;
    return { batchSize, columnLength, accumulation, optimizer: optimizer.constructor.name };
  }
}
