import { type Corpus, loadCorpus } from "../data/corpora.js";
import { LmBatches } from "../data/batches.js";
import type { TokenSource } from "../data/token-source.js";
import { openDevice } from "../device.js";
import { type Gate, gates } from "../moe/gates.js";
import { topKSchedule } from "../moe/top-k-schedule.js";
import { Initializer } from "../nn/initializer.js";
import { TransformerXL } from "../nn/transformer-xl.js";
import type { Module } from "../nn/module.js";
import { Adagrad, Adam, AdamW, type Optimizer, Sgd } from "../optim/optimizer.js";
import { constantLr, cosineLr, invSqrtLr, type LrSchedule, PlateauLr } from "../optim/schedule.js";
import { CheckpointFolder } from "./checkpoint-folder.js";
import type { RunConfig } from "./config.js";
import { evaluate, type EvaluateOptions, type Evaluation } from "./evaluate.js";
import type { TrainCallbacks, TrainEvent } from "./events.js";
import { Trainer, type TrainerOptions } from "./trainer.js";
import { validationMemLen } from "./validation.js";

/** Everything a training run is made of. */
export interface Run {
  config: RunConfig;
  corpus: Corpus;
  model: TransformerXL;
  optimizer: Optimizer;
  trainer: Trainer;
  /** Trains to `train.steps`, or for `train.maxMinutes`; see {@link Trainer.run}. */
  train(options?: { signal?: AbortSignal } & TrainCallbacks): AsyncGenerator<TrainEvent, void, undefined>;
  /** Evaluates the model as the settings say. */
  evaluate(source: TokenSource, options?: EvaluateOptions): Promise<Evaluation>;
  /** Frees all memory and closes the corpus. */
  close(): Promise<void>;
}

export interface OpenRunOptions {
  /** Folder for checkpoints. Default: none are written. */
  checkpoints?: string;
  /** A checkpoint to go on from; true: the latest of the folder, or the start when there is none. Default false. */
  resume?: boolean | string;
  /** Stops reading the corpus, for which large texts need minutes; then its reason is thrown. */
  signal?: AbortSignal;
}

/** Settings that need not be those of the checkpoint that a run resumes: where, how long and how it is watched. */
const mayDiffer = [
  ...["device", "data.path", "data.cacheDir", "train.steps", "train.maxMinutes"],
  ...["evaluation", "checkpoint", "log"],
];

/**
 * Builds a run from its settings: opens the corpus, initialises the model, prepares the trainer.
 *
 * @throws {CheckpointError} when the checkpoint to resume is damaged, or from a run with other settings; it names them.
 */
export async function openRun(config: RunConfig, options: OpenRunOptions = {}): Promise<Run> {
  const corpus = await openCorpus(config, options.signal);
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
    ...validationOption(config, corpus.valid),
    ...checkpointOption(config, options.checkpoints),
  });
  const run: Run = {
    config,
    corpus,
    model,
    optimizer,
    trainer,
    train: (callbacks) => {
      const { steps, maxMinutes } = config.train;
      return trainer.run({ ...callbacks, steps, maxSeconds: 60 * (maxMinutes ?? Infinity) });
    },
    evaluate: (source, other) => evaluate(model, source, { ...evaluationOptions(config), ...other }),
    async close() {
      trainer.dispose();
      optimizer.dispose();
      model.dispose();
      await corpus.close();
    },
  };
  try {
    const checkpoint = await checkpointToResume(options);
    if (checkpoint !== null) await trainer.restore(checkpoint, { mayDiffer });
  } catch (error) {
    await run.close();
    throw error;
  }
  return run;
}

/** The corpus of a run. */
export async function openCorpus({ data }: Pick<RunConfig, "data">, signal?: AbortSignal): Promise<Corpus> {
  const { corpus, path, tokens, cacheDir } = data;
  return loadCorpus(corpus, {
    ...(signal && { signal }),
    ...(path !== null && { path }),
    ...(tokens !== null && { tokens }),
    ...(cacheDir !== null && { cacheDir }),
  });
}

async function checkpointToResume({ checkpoints, resume = false }: OpenRunOptions): Promise<string | null> {
  if (typeof resume === "string") return resume;
  return resume && checkpoints !== undefined ? new CheckpointFolder(checkpoints).latest() : null;
}

/** How a run evaluates. */
export function evaluationOptions({ model, train, evaluation }: RunConfig): EvaluateOptions {
  const { maxBatches, batchSize, seqLen } = evaluation;
  const memLen = validationMemLen(model.memLen, train.seqLen, seqLen);
  return { batchSize, seqLen, memLen, ...(maxBatches !== null && { maxBatches }) };
}

/** The model of a run. */
export function buildModel(
  { seed, device, dtype, model, train }: RunConfig,
  vocabSize: number,
  {
    baked = false,
  }: {
    /** Its routers are stored, not made by a hypernetwork. Default false. */
    baked?: boolean;
  } = {},
): TransformerXL {
  const { numExperts, topK, gate, hyperSize, moeLayers, ...options } = model;
  const own = gates[gate].balance;
  const balance = { ...own, weight: train.balanceWeight ?? own.weight };
  const balanced: Gate = { ...gates[gate], balance, ...(baked && { weights: "frozen" }) };
  const moe =
    moeLayers?.length === 0
      ? null
      : { numExperts, topK, hyperSize, gate: balanced, ...(moeLayers && { layers: moeLayers }) };
  return new TransformerXL(
    { ...options, vocabSize, moe },
    new Initializer({ seed, device: openDevice(device, { dtype }) }),
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
      return new Sgd(parameters, { weightDecay, momentum: train.momentum });
    case "adagrad":
      return new Adagrad(parameters, { weightDecay });
  }
}

function buildLr(train: RunConfig["train"]): LrSchedule | PlateauLr {
  const { lr, lrSchedule, minLr, warmupSteps, steps } = train;
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
    case "plateau": {
      const { plateauDecay: decayRate, plateauPatience: patience } = train;
      return new PlateauLr({ lr, warmupSteps, minLr: Math.min(minLr, lr), decayRate, patience });
    }
  }
}

function validationOption(config: RunConfig, source: TokenSource): Pick<TrainerOptions, "validation"> {
  const { every, patience } = config.evaluation;
  if (every === null) return {};
  const { topK } = config.model;
  const options = { ...evaluationOptions(config), source, every, topK };
  return { validation: { ...options, ...(patience !== null && { patience }) } };
}

function checkpointOption(config: RunConfig, folder?: string): Pick<TrainerOptions, "checkpoints"> {
  if (folder === undefined) return {};
  const { every, keepLast } = config.checkpoint;
  return { checkpoints: { folder, keepLast, config, ...(every !== null && { every }) } };
}

function topKOption({ topKSchedule: mode, topKMin: min, topKMax: max, steps }: RunConfig["train"]) {
  return mode === null ? {} : { topK: topKSchedule({ mode, min, max, steps }) };
}
