import { type Corpus, loadCorpus } from "../data/corpora.js";
import { LmBatches } from "../data/batches.js";
import type { TokenSource } from "../data/token-source.js";
import { openDevice } from "../device.js";
import { gates } from "../moe/gates.js";
import { topKSchedule } from "../moe/top-k-schedule.js";
import { Initializer } from "../nn/initializer.js";
import { TransformerXL } from "../nn/transformer-xl.js";
import type { Module } from "../nn/module.js";
import { Adagrad, Adam, AdamW, type Optimizer, Sgd } from "../optim/optimizer.js";
import { constantLr, cosineLr, invSqrtLr, type LrSchedule } from "../optim/schedule.js";
import type { RunConfig } from "./config.js";
import { evaluate, type EvaluateOptions, type Evaluation } from "./evaluate.js";
import { type StepEvent, Trainer } from "./trainer.js";

/** Everything a training run is made of. */
export interface Run {
  config: RunConfig;
  corpus: Corpus;
  model: TransformerXL;
  optimizer: Optimizer;
  trainer: Trainer;
  /** Trains to `train.steps`, or for `train.maxMinutes`; one event per update. */
  train(signal?: AbortSignal): AsyncGenerator<StepEvent, void, undefined>;
  /** Evaluates the model as the settings say. */
  evaluate(source: TokenSource, options?: EvaluateOptions): Promise<Evaluation>;
  /** Frees all memory and closes the corpus. */
  close(): Promise<void>;
}

/** Builds a run from its settings: opens the corpus, initialises the model, prepares the trainer. */
export async function openRun(config: RunConfig): Promise<Run> {
  const { corpus: name, path, tokens } = config.data;
  const corpus = await loadCorpus(name, {
    ...(path !== null && { path }),
    ...(tokens !== null && { tokens }),
  });
  const model = buildModel(config, corpus.tokenizer.vocabSize);
  model.tokenizer = corpus.tokenizer;
  const optimizer = buildOptimizer(config.train, model);
  const trainer = new Trainer({
    model,
    optimizer,
    batches: new LmBatches(corpus.train, config.train),
    lr: buildLr(config.train),
    ...topKOption(config.train),
    maxGradNorm: config.train.maxGradNorm,
    accumulation: config.train.accumulation,
  });
  return {
    config,
    corpus,
    model,
    optimizer,
    trainer,
    train: (signal) => {
      const { steps, maxMinutes } = config.train;
      return trainer.steps({ steps, maxSeconds: 60 * maxMinutes, signal });
    },
    evaluate: (source, options) => evaluate(model, source, { ...evaluationOptions(config), ...options }),
    async close() {
      trainer.dispose();
      optimizer.dispose();
      model.dispose();
      await corpus.close();
    },
  };
}

/** How a run evaluates. */
export function evaluationOptions({ evaluation }: RunConfig): EvaluateOptions {
  const { maxBatches, ...options } = evaluation;
  return { ...options, ...(maxBatches !== null && { maxBatches }) };
}

/** The model of a run. */
export function buildModel({ seed, device, model, train }: RunConfig, vocabSize: number): TransformerXL {
  const { numExperts, topK, gate, hyperSize, moeLayers, ...options } = model;
  const balanced = { ...gates[gate], balance: { ...gates[gate].balance, weight: train.balanceWeight } };
  const moe = { numExperts, topK, hyperSize, gate: balanced, ...(moeLayers && { layers: moeLayers }) };
  return new TransformerXL(
    { ...options, vocabSize, moe },
    new Initializer({ seed, device: openDevice(device) }),
  );
}

function buildOptimizer(train: RunConfig["train"], model: Module): Optimizer {
  const parameters = model.parameters();
  const { weightDecay } = train;
  switch (train.optimizer) {
    case "adam":
      return new Adam(parameters, { weightDecay });
    case "adamw":
      return new AdamW(parameters, { weightDecay });
    case "sgd":
      return new Sgd(parameters, { weightDecay, momentum: 0.9 });
    case "adagrad":
      return new Adagrad(parameters, { weightDecay });
  }
}

function buildLr({ lr, lrSchedule, minLr, warmupSteps, steps }: RunConfig["train"]): LrSchedule {
  switch (lrSchedule) {
    case "cosine":
      return cosineLr({
        lr,
        minLr: Math.min(minLr, lr),
        warmupSteps: Math.min(warmupSteps, steps - 1),
        maxSteps: steps,
      });
    case "invSqrt":
      return invSqrtLr({ lr, warmupSteps });
    case "constant":
      return constantLr({ lr, warmupSteps });
  }
}

function topKOption({ topKSchedule: mode, topKMin: min, topKMax: max, steps }: RunConfig["train"]) {
  return mode === null ? {} : { topK: topKSchedule({ mode, min, max, steps }) };
}
