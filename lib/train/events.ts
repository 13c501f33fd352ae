import type { CheckpointError } from "../errors.js";
import type { Evaluation } from "./evaluate.js";

/** One update was done. */
export interface StepEvent {
  type: "step";
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
  /** Time of the update, waiting for its batch included. */
  seconds: number;
  /** Mean entropy of each MoE layer's router, in nats. */
  routerEntropy: number[];
}

/** The model was evaluated after update number `step`. */
export interface EvaluationEvent {
  type: "evaluation";
  step: number;
  /** With the base number of experts per token. */
  base: Evaluation;
  /** With all experts; the same as `base` without experts. */
  dense: Evaluation;
  /** Whether `base`, or `dense`, is the lowest loss so far. */
  isBest: boolean;
  isBestDense: boolean;
  /** Learning-rate and early-stopping decisions count these. */
  evaluationsSinceBest: number;
  seconds: number;
}

/** A checkpoint of the state after update number `step` is on the disk, or could not be written. */
export interface CheckpointEvent {
  type: "checkpoint";
  step: number;
  path: string;
  /** Why it is not on the disk. Earlier checkpoints are intact and training goes on. Null: it is. */
  error: CheckpointError | null;
  /** From the snapshot until it was on the disk. */
  seconds: number;
}

/** The run is over. */
export interface EndEvent {
  type: "end";
  /** Updates done in all. */
  step: number;
  /**
   * `steps` or `time`: the limit was reached; `aborted`: by the signal; `patience`: too many evaluations without
   * improvement.
   */
  reason: "steps" | "time" | "aborted" | "patience";
}

/** What a run reports, in order. */
export type TrainEvent = StepEvent | EvaluationEvent | CheckpointEvent | EndEvent;

/** Callbacks for events. An async one is awaited before training goes on. */
export interface TrainCallbacks {
  onStep?: (event: StepEvent) => void | Promise<void>;
  onEvaluation?: (event: EvaluationEvent) => void | Promise<void>;
  onCheckpoint?: (event: CheckpointEvent) => void | Promise<void>;
  onEnd?: (event: EndEvent) => void | Promise<void>;
}

/** Calls the callback of an event. */
export async function notify(callbacks: TrainCallbacks, event: TrainEvent): Promise<void> {
  switch (event.type) {
    case "step":
      return callbacks.onStep?.(event);
    case "evaluation":
      return callbacks.onEvaluation?.(event);
    case "checkpoint":
      return callbacks.onCheckpoint?.(event);
    case "end":
      return callbacks.onEnd?.(event);
  }
}
