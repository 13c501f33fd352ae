import { LmBatches } from "../data/batches.js";
import type { TokenSource } from "../data/token-source.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { checkInteger } from "../options.js";
import { evaluate, type Evaluation } from "./evaluate.js";
import type { EvaluationEvent } from "./events.js";

export interface ValidationOptions {
  source: TokenSource;
  /** Updates between evaluations. */
  every: number;
  /** The base number of experts per token. Default: the model's when the trainer is made. */
  topK?: number;
  /** Stops training after this many evaluations in a row that do not lower the base loss. Default: never. */
  patience?: number;
  /** Columns read side by side. Default 10. */
  batchSize?: number;
  /** Tokens per segment. Default 128. */
  seqLen?: number;
  /** Memory rows. Default: {@link validationMemLen}. */
  memLen?: number;
  /** Stops each evaluation after this many segments. Default: the whole source. */
  maxBatches?: number;
}

/** Lowest loss so far, in nats, and the update after which it was measured. */
export interface Best {
  nats: number;
  step: number;
}

/** What validation remembers: plain JSON. */
export interface ValidationState {
  /** Update after which the last evaluation was done; 0: none yet. */
  evaluatedAt: number;
  best: { base: Best | null; dense: Best | null };
  evaluationsSinceBest: number;
}

/**
 * Memory rows of an evaluation, so that its last token sees as far back as in training: memLen + trainSeqLen -
 * seqLen, but at least 1; 0 for a model without memory.
 */
export function validationMemLen(memLen: number, trainSeqLen: number, seqLen: number): number {
  return memLen === 0 ? 0 : Math.max(1, memLen + trainSeqLen - seqLen);
}

/** Evaluates a model now and then while it trains, and remembers the best results. */
export class Validation {
  state: ValidationState = { evaluatedAt: 0, best: { base: null, dense: null }, evaluationsSinceBest: 0 };
  readonly #baseTopK: number;

  constructor(
    private readonly model: TransformerXL,
    private readonly options: ValidationOptions,
    private readonly trainSeqLen: number,
  ) {
    checkInteger("validation.every", options.every, 1);
    if (options.patience !== undefined) checkInteger("validation.patience", options.patience, 1);
    this.#baseTopK = options.topK ?? model.topK;
    const { source, batchSize = 10, seqLen = 128 } = options;
    new LmBatches(source, { batchSize, seqLen }); // refuses a text that is too short now, not at the first evaluation
  }

  /** Whether an evaluation is to be done after this many updates. */
  isDue(updates: number): boolean {
    return updates > 0 && updates % this.options.every === 0 && this.state.evaluatedAt !== updates;
  }

  /** Whether the base loss has not fallen for too long. */
  get isOutOfPatience(): boolean {
    return this.state.evaluationsSinceBest >= (this.options.patience ?? Infinity);
  }

  /**
   * Evaluates with all experts and with the base number; the model is put back to what it was.
   *
   * @throws the signal's reason when aborted; then nothing has changed.
   */
  async run(updates: number, signal: AbortSignal | undefined): Promise<EvaluationEvent> {
    const start = performance.now();
    const { base, dense } = await this.#measure(signal);
    const { best, evaluationsSinceBest } = this.state;
    const isBest = base.nats < (best.base?.nats ?? Infinity);
    const isBestDense = dense.nats < (best.dense?.nats ?? Infinity);
    this.state = {
      evaluatedAt: updates,
      best: {
        base: isBest ? { nats: base.nats, step: updates } : best.base,
        dense: isBestDense ? { nats: dense.nats, step: updates } : best.dense,
      },
      evaluationsSinceBest: isBest ? 0 : evaluationsSinceBest + 1,
    };
    return {
      type: "evaluation",
      step: updates,
      base,
      dense,
      isBest,
      isBestDense,
      evaluationsSinceBest: this.state.evaluationsSinceBest,
      seconds: (performance.now() - start) / 1000,
    };
  }

  async #measure(signal: AbortSignal | undefined): Promise<{ base: Evaluation; dense: Evaluation }> {
    const { source, batchSize = 10, seqLen = 128, maxBatches } = this.options;
    const memLen = this.options.memLen ?? validationMemLen(this.model.memLen, this.trainSeqLen, seqLen);
    const options = { batchSize, seqLen, memLen, signal, ...(maxBatches !== undefined && { maxBatches }) };
    const numExperts = this.model.routers?.numExperts ?? 0;
    const dense = await evaluate(this.model, source, { ...options, topK: numExperts });
    if (numExperts === this.#baseTopK) return { base: dense, dense };
    return { base: await evaluate(this.model, source, { ...options, topK: this.#baseTopK }), dense };
  }
}
