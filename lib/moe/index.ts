export { Experts, type ExpertsOptions } from "./experts.js";
export { type Gate, type GateName, gateNames, gates } from "./gates.js";
export {
  HyperRouters,
  type HypernetworkOptions,
  type RouterSizes,
  type RouterWeights,
} from "./hyper-routers.js";
export { MoELayer } from "./moe-layer.js";
export { route, type Router, type Routing } from "./router.js";
export {
  LinearRouters,
  Routers,
  type RouterSource,
  type RouterSourceFactory,
  type RoutersOptions,
} from "./routers.js";
export { type TopKMode, topKModes, topKSchedule, type TopKScheduleOptions } from "./top-k-schedule.js";
