export { assign, flatConfig, parseConfig, type RunConfig, type RunConfigInput } from "./config.js";
export { doublingTopKs, evaluate, type EvaluateOptions, type Evaluation, sweepTopK } from "./evaluate.js";
export { loadModel, type SavedModel, saveModel } from "./model-file.js";
export { buildModel, openRun, type Run } from "./run.js";
export {
  type RunOptions,
  type StepEvent,
  Trainer,
  type TrainerCallbacks,
  type TrainerOptions,
} from "./trainer.js";
