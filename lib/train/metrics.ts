import { checkInteger } from "../options.js";
import type { Evaluation } from "./evaluate.js";
import type { EvaluationEvent, StepEvent, TrainEvent } from "./events.js";

/**
 * What is measured while a model trains: one record per log interval (`training`), per evaluation on the validation
 * text (`validation`), per number of experts at the end (`test`), and per start (`start`).
 */
export type Metrics = StartMetrics | TrainingMetrics | ValidationMetrics | TestMetrics;

interface Stamp {
  /** Updates done. */
  step: number;
  /** When, in seconds since 1970. */
  time: number;
}

/** Training began, or went on, after `step` updates. Records of later steps that were written before are void. */
export interface StartMetrics extends Stamp {
  type: "start";
}

/** The updates since the record before; means, where nothing else is said. */
export interface TrainingMetrics extends Stamp {
  type: "training";
  /** Negative log-likelihood per token, in nats. */
  loss: number;
  /** The same in bits. */
  bpc: number;
  /** Weighted auxiliary losses. */
  auxLoss: number;
  /** Before clipping. */
  gradNorm: number;
  /** Of the last update. */
  lr: number;
  /** Experts per token in the last update. */
  topK: number;
  /** Tokens predicted in these updates, in all. */
  tokens: number;
  tokensPerSecond: number;
  /** Per MoE layer, in nats. */
  routerEntropy: number[];
}

/** An evaluation on the validation text, with the base number of experts and with all. */
export interface ValidationMetrics extends Stamp, Measured {
  type: "validation";
  denseNats: number;
  denseBpc: number;
  /** Whether `nats`, or `denseNats`, is the lowest so far. */
  isBest: boolean;
  isBestDense: boolean;
  /** Time it took. */
  seconds: number;
}

/** An evaluation on the test text with `topK` experts per token. */
export interface TestMetrics extends Stamp, Measured {
  type: "test";
}

/** See {@link Evaluation}. */
type Measured = Pick<Evaluation, "nats" | "bpc" | "perplexity" | "topK" | "routerEntropy" | "expertLoad">;

/** Where records go. */
export interface MetricsSink {
  write(metrics: Metrics): Promise<void>;
  close(): Promise<void>;
}

/** Turns the events of a run into records for any number of sinks. */
export class MetricsRecorder {
  #interval: StepEvent[] = [];

  /** @param every Updates per training record. */
  constructor(
    private readonly sinks: readonly MetricsSink[],
    private readonly every: number,
  ) {
    checkInteger("logEvery", every, 1);
  }

  /** To be called before the first update. @param step Updates done by earlier runs. */
  async start(step: number): Promise<void> {
    await this.#write({ type: "start", step, time: now() });
  }

  async event(event: TrainEvent): Promise<void> {
    if (event.type === "step") {
      this.#interval.push(event);
      if (event.step % this.every === 0) await this.#endInterval();
    } else if (event.type === "evaluation") {
      await this.#write(validationMetrics(event));
    } else if (event.type === "end") {
      await this.#endInterval();
    }
  }

  async test(step: number, evaluation: Evaluation): Promise<void> {
    await this.#write({ type: "test", step, time: now(), ...measured(evaluation) });
  }

  async close(): Promise<void> {
    await Promise.all(this.sinks.map((sink) => sink.close()));
  }

  async #endInterval(): Promise<void> {
    const steps = this.#interval;
    this.#interval = [];
    const metrics = trainingMetrics(steps);
    if (metrics) await this.#write(metrics);
  }

  async #write(metrics: Metrics): Promise<void> {
    await Promise.all(this.sinks.map((sink) => sink.write(metrics)));
  }
}

function trainingMetrics(steps: readonly StepEvent[]): TrainingMetrics | undefined {
  const last = steps.at(-1);
  if (!last) return undefined;
  const sum = (value: (event: StepEvent) => number): number =>
    steps.reduce((total, event) => total + value(event), 0);
  const mean = (value: (event: StepEvent) => number): number => sum(value) / steps.length;
  const loss = mean((event) => event.loss);
  const tokens = sum((event) => event.tokens);
  return {
    type: "training",
    step: last.step,
    time: now(),
    loss,
    bpc: loss / Math.LN2,
    auxLoss: mean((event) => event.auxLoss),
    gradNorm: mean((event) => event.gradNorm),
    lr: last.lr,
    topK: last.topK,
    tokens,
    tokensPerSecond: tokens / sum((event) => event.seconds),
    routerEntropy: last.routerEntropy.map((_, layer) => mean((event) => event.routerEntropy[layer] ?? NaN)),
  };
}

function validationMetrics(event: EvaluationEvent): ValidationMetrics {
  const { step, base, dense, isBest, isBestDense, seconds } = event;
  return {
    ...{ type: "validation", step, time: now(), ...measured(base) },
    ...{ denseNats: dense.nats, denseBpc: dense.bpc, isBest, isBestDense, seconds },
  };
}

function measured({ nats, bpc, perplexity, topK, routerEntropy, expertLoad }: Evaluation): Measured {
  return { nats, bpc, perplexity, topK, routerEntropy, expertLoad };
}

function now(): number {
  return Date.now() / 1000;
}
