export { loadWeights, type LoadReport, type TensorDifferences } from "../checkpoint/weights.js";
export { checkpointInfo, type CheckpointInfo, type Progress } from "./checkpoint.js";
export { CheckpointFolder } from "./checkpoint-folder.js";
export type { CheckpointOptions } from "./checkpoint-writer.js";
export { assign, flatConfig, parseConfig, type RunConfig, type RunConfigInput } from "./config.js";
export { doublingTopKs, evaluate, type EvaluateOptions, type Evaluation, sweepTopK } from "./evaluate.js";
export type {
  CheckpointEvent,
  EndEvent,
  EvaluationEvent,
  StepEvent,
  TrainCallbacks,
  TrainEvent,
} from "./events.js";
export {
  type Metrics,
  MetricsRecorder,
  type MetricsSink,
  type StartMetrics,
  type TestMetrics,
  type TrainingMetrics,
  type ValidationMetrics,
} from "./metrics.js";
export { MetricsFile, readMetrics } from "./metrics-file.js";
export { loadModel, type SavedModel, saveModel, type SaveModelOptions } from "./model-file.js";
export { type Preset, type PresetName, presetNames, presets } from "./presets.js";
export { buildModel, evaluationOptions, openCorpus, openRun, type OpenRunOptions, type Run } from "./run.js";
export { type CheckpointChoice, checkpointChoices, RunFolder } from "./run-folder.js";
export { TensorBoardFile } from "./tensorboard.js";
export { type RunOptions, Trainer, type TrainerOptions } from "./trainer.js";
export { type Best, validationMemLen, type ValidationOptions, type ValidationState } from "./validation.js";
