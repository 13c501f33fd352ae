export { Arena } from "./arena.js";
export {
  Adagrad,
  type AdagradOptions,
  Adam,
  type AdamOptions,
  AdamW,
  type Clip,
  Optimizer,
  type ParameterGroup,
  Sgd,
  type SgdOptions,
} from "./optimizer.js";
export {
  constantLr,
  type CosineOptions,
  cosineLr,
  invSqrtLr,
  type LrSchedule,
  type LrScheduleOptions,
  PlateauLr,
  type PlateauOptions,
  type PlateauState,
} from "./schedule.js";
