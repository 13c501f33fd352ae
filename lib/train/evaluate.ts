import { LmBatches } from "../data/batches.js";
import type { TokenSource } from "../data/token-source.js";
import type { Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { routerEntropy } from "../ops/router.js";
import { scope } from "../scope.js";
import { type FloatTensor, indices, type IndexTensor } from "../tensor.js";
import { disposeMemory } from "../nn/memory.js";

export interface EvaluateOptions {
  /** Columns read side by side. Default 10, as in the reference. */
  batchSize?: number;
  /** Tokens per segment. Default 128. */
  seqLen?: number;
  /** Memory rows while evaluating. Default: the model's. */
  memLen?: number;
  /** Experts per token. Default: the model's. */
  topK?: number;
  /** Stops after this many segments. Default: the whole source. */
  maxBatches?: number;
  signal?: AbortSignal | undefined;
}

/** Result of an evaluation. */
export interface Evaluation {
  /** Mean negative log-likelihood per token, in nats. */
  nats: number;
  /** Bits per token: bits per character for character or byte models. */
  bpc: number;
  /** `exp(nats)` */
  perplexity: number;
  /** Tokens predicted. */
  tokens: number;
  topK: number;
  /** Mean entropy over all experts of each MoE layer's router, in nats. */
  routerEntropy: number[];
  /** Share of routed pairs that each expert of each MoE layer got. */
  expertLoad: number[][];
}

/**
 * Evaluates a language model on a token source, in order, with memory carried along and dropout off. The model's
 * mode, memory length and top-k are put back afterwards.
 *
 * @throws the signal's reason when aborted.
 */
export async function evaluate(
  model: TransformerXL,
  source: TokenSource,
  options: EvaluateOptions = {},
): Promise<Evaluation> {
  const { batchSize = 10, seqLen = 128, memLen = model.memLen, topK = model.topK, signal } = options;
  const { maxBatches = Infinity } = options;
  const before = { training: model.training, memLen: model.memLen, topK: model.topK };
  model.eval();
  model.memLen = memLen;
  model.setTopK(topK);
  const totals = new Totals();
  let memory: Memory | null = null;
  try {
    let count = 0;
    for await (const batch of new LmBatches(source, { batchSize, seqLen }).epoch()) {
      signal?.throwIfAborted();
      const segment = scope(() => {
        const shape = [batch.length, batchSize] as const;
        const inputs = indices(batch.inputs, shape, model.device);
        const targets = indices(batch.targets, shape, model.device);
        const { loss, memory: next, routing } = model.loss(inputs, targets, memory);
        return {
          loss,
          memory: next,
          entropies: routing.map(({ logits }) => routerEntropy(logits)),
          offsets: routing.map(({ expertOffsets }) => expertOffsets),
        };
      });
      disposeMemory(memory);
      memory = segment.memory;
      await totals.add(segment, batch.length * batchSize);
      count += 1;
      if (count >= maxBatches) break;
    }
  } finally {
    disposeMemory(memory);
    model.memLen = before.memLen;
    model.setTopK(before.topK);
    model.train(before.training);
  }
  return totals.result(topK);
}

interface SegmentResult {
  loss: FloatTensor;
  entropies: FloatTensor[];
  offsets: IndexTensor[];
}

/** Running sums over segments, weighted by their tokens. */
class Totals {
  #nats = 0;
  #tokens = 0;
  #entropy: number[] = [];
  #routed: number[][] = [];

  /** Reads and frees one segment's results. */
  async add({ loss, entropies, offsets }: SegmentResult, tokens: number): Promise<void> {
    const [nats, entropy, ends] = await Promise.all([
      loss.item(),
      Promise.all(entropies.map((tensor) => tensor.item())),
      Promise.all(offsets.map((tensor) => tensor.data())),
    ]);
    for (const tensor of [loss, ...entropies, ...offsets]) tensor.dispose();
    this.#tokens += tokens;
    this.#nats += nats * tokens;
    entropy.forEach((value, layer) => {
      this.#entropy[layer] = (this.#entropy[layer] ?? 0) + value * tokens;
    });
    ends.forEach((offset, layer) => {
      const routed = (this.#routed[layer] ??= Array.from({ length: offset.length - 1 }, () => 0));
      routed.forEach((sum, expert) => {
        routed[expert] = sum + (offset[expert + 1] ?? 0) - (offset[expert] ?? 0);
      });
    });
  }

  result(topK: number): Evaluation {
    const nats = this.#nats / this.#tokens;
    return {
      nats,
      bpc: nats / Math.LN2,
      perplexity: Math.exp(nats),
      tokens: this.#tokens,
      topK,
      routerEntropy: this.#entropy.map((sum) => sum / this.#tokens),
      expertLoad: this.#routed.map((counts) => {
        const total = counts.reduce((sum, value) => sum + value, 0);
        return counts.map((value) => value / total);
      }),
    };
  }
}

/** Evaluates the same model for several numbers of experts per token. */
export async function sweepTopK(
  model: TransformerXL,
  source: TokenSource,
  topKs: readonly number[],
  options: Omit<EvaluateOptions, "topK"> = {},
): Promise<Evaluation[]> {
  const results: Evaluation[] = [];
  for (const topK of topKs) results.push(await evaluate(model, source, { ...options, topK }));
  return results;
}

/** 1, 2, 4, ... up to and including the number of experts: the k of the paper's main table. */
export function doublingTopKs(numExperts: number): number[] {
  const topKs: number[] = [];
  for (let topK = 1; topK < numExperts; topK *= 2) topKs.push(topK);
  return [...topKs, numExperts];
}
