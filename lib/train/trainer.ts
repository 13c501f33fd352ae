import { backward } from "../autograd/tape.js";
import type { BatchCursor, LmBatch, LmBatches } from "../data/batches.js";
import { ConfigError, NonFiniteError } from "../errors.js";
import type { Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { add, scale } from "../ops/elementwise.js";
import { routerEntropy } from "../ops/router.js";
import type { LrSchedule } from "../optim/schedule.js";
import type { Optimizer } from "../optim/optimizer.js";
import { checkInteger } from "../options.js";
import { type FloatTensor, indices } from "../tensor.js";
import { disposeMemory } from "../nn/memory.js";
import { firstNonFinite } from "./non-finite.js";

export interface TrainerOptions {
  model: TransformerXL;
  optimizer: Optimizer;
  batches: LmBatches;
  /** Learning rate of the next update, from the number of completed ones. */
  lr: LrSchedule;
  /** Experts per token in the next update. Default: the model's, unchanged. */
  topK?: (completedUpdates: number) => number;
  /** Global gradient norm above which gradients are scaled down. Default 0.25; 0: never. */
  maxGradNorm?: number;
  /** Splits each batch into this many groups of columns, run one after the other; gradients add up. Default 1. */
  accumulation?: number;
  /** Freezes the routers after this many updates. Default: never. */
  freezeRoutersAt?: number;
}

/** What one update did. */
export interface StepEvent {
  /** Number of the update, counted from 1. */
  step: number;
  /** Mean negative log-likelihood per token of this batch, in nats. */
  loss: number;
  /** Weighted sum of the auxiliary losses, already part of the gradient but not of `loss`. */
  auxLoss: number;
  /** Global gradient norm before clipping. */
  gradNorm: number;
  lr: number;
  topK: number;
  /** Tokens predicted in this update. */
  tokens: number;
  /** Since the update before. */
  seconds: number;
  /** Mean entropy of each MoE layer's router, in nats. */
  routerEntropy: number[];
}

export interface RunOptions {
  /** Stops after this many updates in all, those of earlier runs included. */
  steps: number;
  /** Begins no update after this many seconds. Default: no limit. */
  maxSeconds?: number;
  /** Finishes the running update, then ends the loop. */
  signal?: AbortSignal | undefined;
}

/** Some columns of a batch. */
interface Columns {
  inputs: Int32Array;
  targets: Int32Array;
  inputLength: number;
  length: number;
  width: number;
}

/** Results of one group of columns, on the device. */
interface GroupResult {
  /** What the backward pass started from. */
  loss: FloatTensor;
  mean: FloatTensor;
  auxLoss: FloatTensor | null;
  entropies: FloatTensor[];
}

/** Callbacks of {@link Trainer.run}. An async callback is awaited before the next update begins. */
export interface TrainerCallbacks {
  onStep?: (event: StepEvent) => void | Promise<void>;
}

/**
 * Trains a language model: batches in, one event per update out.
 *
 * Everything that decides what comes next is a field or belongs to the model and the optimiser: a trainer that is
 * put into the same state goes on bit for bit.
 */
export class Trainer {
  /** Where the next batch starts. */
  cursor: BatchCursor = { epoch: 0, position: 0 };
  /** Hidden states carried to the next batch, one per group of columns. */
  memories: (Memory | null)[] = [];
  readonly #options: Required<Omit<TrainerOptions, "topK" | "freezeRoutersAt">> & TrainerOptions;

  constructor(options: TrainerOptions) {
    this.#options = { maxGradNorm: 0.25, accumulation: 1, ...options };
    checkInteger("accumulation", this.#options.accumulation, 1);
  }

  /** Trains until `steps` updates are done or the signal aborts. Callbacks see every update. */
  async run(options: RunOptions & TrainerCallbacks): Promise<void> {
    for await (const event of this.steps(options)) await options.onStep?.(event);
  }

  /**
   * The same as an iterator: the loop's body sees an update that is done, and leaving the loop stops.
   *
   * @throws {NonFiniteError} naming the first bad tensor, before it can reach the parameters.
   */
  async *steps({
    steps,
    maxSeconds = Infinity,
    signal,
  }: RunOptions): AsyncGenerator<StepEvent, void, undefined> {
    const { model, optimizer, batches } = this.#options;
    model.train();
    const start = performance.now();
    let last = start;
    if (optimizer.updates >= steps) return;
    for await (const batch of batches.endless(this.cursor)) {
      if (signal?.aborted) return;
      const event = await this.#update(batch);
      this.cursor = batch.next;
      const now = performance.now();
      event.seconds = (now - last) / 1000;
      last = now;
      yield event;
      if (optimizer.updates >= steps || now - start >= 1000 * maxSeconds) return;
    }
  }

  /** Frees the memories. */
  dispose(): void {
    for (const memory of this.memories) disposeMemory(memory);
    this.memories = [];
  }

  async #update(batch: LmBatch): Promise<StepEvent> {
    const { model, optimizer, lr, topK, maxGradNorm, accumulation, freezeRoutersAt } = this.#options;
    const completed = optimizer.updates;
    if (topK) model.setTopK(topK(completed));
    if (freezeRoutersAt !== undefined && completed >= freezeRoutersAt) model.freezeRouters();
    if (batch.cursor.position === 0) this.dispose();

    const groups = columnGroups(batch, accumulation);
    const results = groups.map((group, i) => this.#forwardBackward(group, i, groups.length));
    const clip = optimizer.clip(maxGradNorm);
    const rate = lr(completed);
    // The first wait of the update: everything up to the gradient norm has run.
    const [losses, auxLosses, gradNorm, entropy] = await Promise.all([
      Promise.all(results.map(({ mean }) => mean.item())),
      Promise.all(results.map(async ({ auxLoss }) => (auxLoss ? auxLoss.item() : 0))),
      clip.norm.item(),
      Promise.all((results.at(-1)?.entropies ?? []).map((entropy) => entropy.item())),
    ]);
    const loss = losses.reduce((sum, part) => sum + part, 0) / losses.length;
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
      const tensor = await firstNonFinite(model, this.memories);
      const what = Number.isFinite(loss)
        ? `the gradient norm became ${String(gradNorm)}`
        : `the loss became ${String(loss)}`;
      throw new NonFiniteError(
        completed + 1,
        tensor,
        `${what} at step ${String(completed + 1)}; first non-finite tensor: ${tensor}`,
      );
    }
    optimizer.update(rate, clip);
    for (const { loss: total, mean, auxLoss, entropies } of results) {
      for (const tensor of [total, mean, auxLoss, ...entropies]) tensor?.dispose();
    }
    clip.norm.dispose();
    clip.factor.dispose();
    return {
      step: completed + 1,
      loss,
      auxLoss: auxLosses.reduce((sum, part) => sum + part, 0) / auxLosses.length,
      gradNorm,
      lr: rate,
      topK: model.topK,
      tokens: batch.length * batch.batchSize,
      seconds: 0,
      routerEntropy: entropy,
    };
  }

  /** One group of columns through the model and back. */
  #forwardBackward(batch: Columns, group: number, groups: number): GroupResult {
    const { model } = this.#options;
    const memory = this.memories[group] ?? null;
    const result = backward(() => {
      const inputs = indices(batch.inputs, [batch.inputLength, batch.width], model.device);
      const targets = indices(batch.targets, [batch.length, batch.width], model.device);
      const { loss: mean, auxLoss, memory: next, routing } = model.loss(inputs, targets, memory);
      return {
        loss: scale(auxLoss ? add(mean, auxLoss) : mean, 1 / groups),
        mean,
        auxLoss,
        next,
        entropies: routing.map(({ logits }) => routerEntropy(logits)),
      };
    });
    disposeMemory(memory);
    this.memories[group] = result.next;
    return result;
  }
}

/** Cuts a batch into groups of columns, as even as they come. */
function columnGroups(batch: LmBatch, groups: number): Columns[] {
  const { batchSize, inputLength, length } = batch;
  if (groups > batchSize) {
    throw new ConfigError(
      "accumulation",
      groups,
      `a batch of ${String(batchSize)} columns cannot be split into ${String(groups)} groups`,
      "use accumulation <= batchSize",
    );
  }
  const cut = (array: Int32Array, begin: number, end: number): Int32Array => {
    if (begin === 0 && end === batchSize) return array;
    return array.filter((_, i) => i % batchSize >= begin && i % batchSize < end);
  };
  return Array.from({ length: groups }, (_, group) => {
    const begin = Math.floor((group * batchSize) / groups);
    const end = Math.floor(((group + 1) * batchSize) / groups);
    return {
      inputs: cut(batch.inputs, begin, end),
      targets: cut(batch.targets, begin, end),
      inputLength,
      length,
      width: end - begin,
    };
  });
}
