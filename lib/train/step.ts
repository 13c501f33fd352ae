import { backward } from "../autograd/tape.js";
import type { LmBatch } from "../data/batches.js";
import { ConfigError, NonFiniteError } from "../errors.js";
import { disposeMemory, type Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { add, scale } from "../ops/elementwise.js";
import { routerEntropy } from "../ops/router.js";
import type { Clip, Optimizer } from "../optim/optimizer.js";
import { type FloatTensor, indices } from "../tensor.js";
import type { StepEvent } from "./events.js";
import { firstNonFinite } from "./non-finite.js";

/** What one update works with. */
export interface StepContext {
  model: TransformerXL;
  optimizer: Optimizer;
  /** Learning rate. */
  lr: number;
  maxGradNorm: number;
  /** Groups of columns, run one after the other; gradients add up. */
  accumulation: number;
  /** Hidden states of the batch before, one per group; replaced by those of this batch, which the caller owns. */
  memories: (Memory | null)[];
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

/**
 * One update: forward, backward, clipping, optimiser.
 *
 * @throws {NonFiniteError} naming the first bad tensor, before it can reach the parameters.
 */
export async function trainStep(context: StepContext, batch: LmBatch): Promise<Omit<StepEvent, "seconds">> {
  const { model, optimizer, lr, memories } = context;
  const groups = columnGroups(batch, context.accumulation);
  const results: GroupResult[] = [];
  let clip: Clip | undefined;
  let updated = false;
  try {
    for (const [i, group] of groups.entries()) {
      results.push(forwardBackward(model, memories, group, i, groups.length));
      // Keeps the queue short, however many groups and layers there are.
      if (i < groups.length - 1) await model.device.settled();
    }
    clip = optimizer.clip(context.maxGradNorm);
    // Everything up to the gradient norm has run when these are there.
    const [losses, auxLosses, entropies, gradNorm] = await Promise.all([
      Promise.all(results.map(({ mean }) => mean.item())),
      Promise.all(results.map(async ({ auxLoss }) => (auxLoss ? auxLoss.item() : 0))),
      Promise.all(results.map((result) => Promise.all(result.entropies.map((entropy) => entropy.item())))),
      clip.norm.item(),
    ]);
    const loss = average(losses);
    const step = optimizer.updates + 1;
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
      throw await nonFiniteError(context, step, loss, gradNorm);
    }
    optimizer.update(lr, clip);
    updated = true;
    return {
      type: "step",
      step,
      loss,
      auxLoss: average(auxLosses),
      gradNorm,
      lr,
      topK: model.topK,
      tokens: batch.length * batch.batchSize,
      routerEntropy: (entropies[0] ?? []).map((_, layer) =>
        average(entropies.map((group) => group[layer] ?? NaN)),
      ),
    };
  } finally {
    for (const { loss, mean, auxLoss, entropies } of results) {
      for (const tensor of [loss, mean, auxLoss, ...entropies]) tensor?.dispose();
    }
    clip?.norm.dispose();
    clip?.factor.dispose();
    // What a failed update has added up must not reach the next one.
    if (!updated) optimizer.arena.zeroGradients();
  }
}

/** One group of columns through the model and back. */
function forwardBackward(
  model: TransformerXL,
  memories: (Memory | null)[],
  columns: Columns,
  group: number,
  groups: number,
): GroupResult {
  const memory = memories[group] ?? null;
  const result = backward(() => {
    const inputs = indices(columns.inputs, [columns.inputLength, columns.width], model.device);
    const targets = indices(columns.targets, [columns.length, columns.width], model.device);
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
  for (const hidden of result.next ?? []) hidden.keep();
  memories[group] = result.next;
  return result;
}

async function nonFiniteError(
  { model, memories }: StepContext,
  step: number,
  loss: number,
  gradNorm: number,
): Promise<NonFiniteError> {
  const tensor = await firstNonFinite(model, memories);
  const what = Number.isFinite(loss)
    ? `the gradient norm became ${String(gradNorm)}`
    : `the loss became ${String(loss)}`;
  return new NonFiniteError(
    step,
    tensor,
    `${what} at step ${String(step)}; first non-finite tensor: ${tensor}`,
  );
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
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
