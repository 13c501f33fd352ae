/**
 * hyperrouter: train and run sparse mixture-of-experts language models in Node.js.
 *
 * Tensors and autograd, then modules, then training. Everything here is documented with shapes, dtypes, units,
 * ownership and errors; docs/architecture.md follows one tensor through one training step.
 */
export { backward, record, type Gradients } from "./autograd/tape.js";
export { Device, deviceNames, openDevice, type DeviceOptions, type MemoryStats } from "./device.js";
export type { ArrayOf, DType, FloatDType, ProductDType } from "./dtype.js";
export * from "./errors.js";
export { scope } from "./scope.js";
export {
  empty,
  type FloatTensor,
  indices,
  type IndexTensor,
  type Leaf,
  type Shape,
  Tensor,
  tensor,
  zeros,
} from "./tensor.js";
export { type RandomCall, RandomStream } from "./random.js";

export { activation, type Activation, gelu, relu } from "./ops/activation.js";
export { combine, dispatch, type Dispatch, type RoutedRows } from "./ops/dispatch.js";
export { type Dropout, dropout } from "./ops/dropout.js";
export { add, cast, div, mul, scale, sub } from "./ops/elementwise.js";
export { embed } from "./ops/embed.js";
export { linear, matmul } from "./ops/gemm.js";
export { expertRows, type ExpertWeights, mixExperts } from "./ops/grouped-gemm.js";
export { generateRouters, type HypernetworkWeights } from "./ops/hyper-router.js";
export { layerNorm } from "./ops/layer-norm.js";
export { crossEntropy, type CrossEntropyOptions, tailCrossEntropy } from "./ops/loss.js";
export { randomNormal, randomUniform } from "./ops/random.js";
export { mean, sum } from "./ops/reduce.js";
export { relAttention } from "./ops/rel-attention.js";
export { balanceLoss, routerEntropy, routerTopK, type TopK, type Weighting } from "./ops/router.js";
export { clone, concatRows, reshape, rows } from "./ops/view.js";

export {
  readSafetensors,
  type SafetensorsData,
  SafetensorsFile,
  type SafetensorsSource,
  type SafetensorsTensor,
  type TensorInfo,
  toFloat32,
  toFloat64,
  toInt32,
  writeSafetensors,
} from "./checkpoint/safetensors.js";

export * as nn from "./nn/index.js";
export * as moe from "./moe/index.js";
export * as optim from "./optim/index.js";
export * as data from "./data/index.js";
export * as train from "./train/index.js";
export * as reference from "./reference-model.js";
