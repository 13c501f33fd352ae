export { AdaptiveEmbedding, type AdaptiveEmbeddingOptions } from "./adaptive-embedding.js";
export { AdaptiveLogSoftmax, type AdaptiveLogSoftmaxOptions } from "./adaptive-log-softmax.js";
export { Dropout } from "./dropout.js";
export { Embedding, type EmbeddingOptions } from "./embedding.js";
export { FeedForward, type FeedForwardOptions } from "./feed-forward.js";
export type { GeneratedToken, GenerateOptions } from "./generate.js";
export type { InferenceOptions } from "./inference.js";
export { Initializer, type InitializerOptions } from "./initializer.js";
export { LayerNorm } from "./layer-norm.js";
export { Linear, type LinearOptions } from "./linear.js";
export { disposeMemory, type Memory, remember } from "./memory.js";
export { Module } from "./module.js";
export { Parameter, requireGrad } from "./parameter.js";
export { Positions, type PositionsOptions } from "./positions.js";
export {
  RelativeAttention,
  type RelativeAttentionOptions,
  type RelativePositions,
} from "./relative-attention.js";
export { ResidualNorm, type ResidualNormOptions } from "./residual-norm.js";
export { sample, type SamplingOptions } from "./sampling.js";
export type { Score, ScoreOptions } from "./score.js";
export { TransformerXLLayer, type TransformerXLLayerOptions } from "./transformer-xl-layer.js";
export {
  type MoEOptions,
  TransformerXL,
  type TransformerXLOptions,
  type TransformerXLOutput,
} from "./transformer-xl.js";
