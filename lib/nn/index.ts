export { AdaptiveEmbedding } from "./adaptive-embedding.js";
export { AdaptiveLogSoftmax } from "./adaptive-log-softmax.js";
export { Embedding } from "./embedding.js";
export { FeedForward } from "./feed-forward.js";
export { Initializer, type InitializerOptions } from "./initializer.js";
export { LayerNorm } from "./layer-norm.js";
export { Linear } from "./linear.js";
export { disposeMemory, type Memory } from "./memory.js";
export { Module } from "./module.js";
export { Parameter, requireGrad } from "./parameter.js";
export { RelativeAttention } from "./relative-attention.js";
export {
  type MoEOptions,
  TransformerXL,
  type TransformerXLOptions,
  type TransformerXLOutput,
} from "./transformer-xl.js";
