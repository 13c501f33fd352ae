// Generated from the addon's op table by `npm run gen`. Do not edit.
import type { Handle } from "./native.js";

export type Activation = "none" | "relu" | "gelu" | "silu" | "tanh" | "sigmoid";
export type RowScale = "none" | "output" | "bias";
export type Weighting = "softmax_kept" | "uniform";
export type BinaryKind = "add" | "sub" | "mul" | "div";

/** The ops of the addon, arguments in wire order. Shapes and meaning: ops/*.h. */
export interface NativeOps {
  /** Updates c. */
  gemm(
    a: Handle,
    b: Handle,
    bias: Handle | null,
    c: Handle,
    transposeA: boolean,
    transposeB: boolean,
    activation: Activation,
    accumulate: boolean,
  ): void;

  /** Writes out, preActivation. */
  groupedGemm(
    a: Handle,
    weight: Handle,
    bias: Handle | null,
    rowScale: Handle | null,
    permutation: Handle,
    expertOffsets: Handle,
    out: Handle,
    preActivation: Handle | null,
    topK: number,
    gather: boolean,
    transposeWeight: boolean,
    scale: RowScale,
    activation: Activation,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Updates out. */
  groupedGemmSum(
    a: Handle,
    weight: Handle,
    bias: Handle | null,
    rowScale: Handle | null,
    permutation: Handle,
    expertOffsets: Handle,
    out: Handle,
    transposeWeight: boolean,
    accumulate: boolean,
  ): void;

  /** Writes dHidden, dRowScale. */
  groupedGemmDgrad(
    dOut: Handle,
    weight: Handle,
    bias: Handle | null,
    rowScale: Handle,
    hidden: Handle,
    preActivation: Handle | null,
    permutation: Handle,
    expertOffsets: Handle,
    dHidden: Handle,
    dRowScale: Handle,
    topK: number,
    activation: Activation,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Updates dWeight, dBias. */
  groupedGemmWgrad(
    a: Handle,
    b: Handle,
    rowScale: Handle | null,
    permutation: Handle,
    expertOffsets: Handle,
    dWeight: Handle,
    dBias: Handle | null,
    topK: number,
    gatherA: boolean,
    gatherB: boolean,
    accumulate: boolean,
  ): void;

  /** Writes hidden, routerWeight, routerBias. */
  hyperRouterGenerate(
    embedding: Handle,
    w1: Handle,
    b1: Handle,
    w2: Handle,
    b2: Handle,
    hidden: Handle,
    routerWeight: Handle,
    routerBias: Handle,
  ): void;

  /** Updates dEmbedding, dW1, dB1, dW2, dB2. */
  hyperRouterBackward(
    dRouterWeight: Handle,
    dRouterBias: Handle,
    embedding: Handle,
    w1: Handle,
    w2: Handle,
    hidden: Handle,
    dEmbedding: Handle | null,
    dW1: Handle | null,
    dB1: Handle | null,
    dW2: Handle | null,
    dB2: Handle | null,
  ): void;

  /** Writes expertIndices, expertWeights; updates logits. */
  routerTopk(
    x: Handle | null,
    routerWeight: Handle | null,
    routerBias: Handle | null,
    logits: Handle,
    expertIndices: Handle,
    expertWeights: Handle,
    topK: number,
    weighting: Weighting,
  ): void;

  /** Updates dLogits. */
  routerTopkBackward(
    dExpertWeights: Handle,
    expertWeights: Handle,
    expertIndices: Handle,
    dLogits: Handle,
    accumulate: boolean,
  ): void;

  /** Writes entropy. */
  routerEntropy(logits: Handle, entropy: Handle): void;

  /** Writes loss. */
  balanceLoss(logits: Handle, expertOffsets: Handle, loss: Handle, topK: number, perToken: boolean): void;

  /** Updates dLogits. */
  balanceLossBackward(
    dLoss: Handle,
    logits: Handle,
    expertOffsets: Handle,
    dLogits: Handle,
    topK: number,
    perToken: boolean,
    accumulate: boolean,
  ): void;

  /** Writes expertOffsets, permutation, inversePermutation. */
  dispatch(
    expertIndices: Handle,
    expertOffsets: Handle,
    permutation: Handle,
    inversePermutation: Handle,
  ): void;

  /** Updates out. */
  combine(rows: Handle, inversePermutation: Handle, out: Handle, topK: number, accumulate: boolean): void;

  /** Writes out, lse. */
  relAttention(
    q: Handle,
    kv: Handle,
    p: Handle,
    u: Handle,
    v: Handle,
    out: Handle,
    lse: Handle,
    blockedLag: number,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Writes dQ, dKv, dP; updates dU, dV. */
  relAttentionBackward(
    dOut: Handle,
    q: Handle,
    kv: Handle,
    p: Handle,
    u: Handle,
    v: Handle,
    out: Handle,
    lse: Handle,
    dQ: Handle,
    dKv: Handle,
    dP: Handle,
    dU: Handle,
    dV: Handle,
    blockedLag: number,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Writes y, sum, mean, rstd. */
  layerNorm(
    x: Handle,
    branch: Handle | null,
    inversePermutation: Handle | null,
    weight: Handle,
    bias: Handle,
    y: Handle,
    sum: Handle | null,
    mean: Handle,
    rstd: Handle,
    topK: number,
    eps: number,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Writes dBranch; updates dX, dWeight, dBias. */
  layerNormBackward(
    dY: Handle,
    s: Handle,
    mean: Handle,
    rstd: Handle,
    weight: Handle,
    dX: Handle,
    dBranch: Handle | null,
    dWeight: Handle,
    dBias: Handle,
    accumulate: boolean,
    dropout: number,
    seed: number,
    call: number,
  ): void;

  /** Writes y. */
  activation(x: Handle, y: Handle, kind: Activation): void;

  /** Writes dX. */
  activationBackward(dY: Handle, x: Handle, dX: Handle, kind: Activation): void;

  /** Writes y. */
  dropout(x: Handle, residual: Handle | null, y: Handle, dropout: number, seed: number, call: number): void;

  /** Writes out. */
  binary(a: Handle, b: Handle, out: Handle, kind: BinaryKind): void;

  /** Updates out. */
  axpby(x: Handle, out: Handle, alpha: number, beta: number): void;

  /** Writes out. */
  fill(out: Handle, value: number): void;

  /** Writes y. */
  cast(x: Handle, y: Handle): void;

  /** Writes out. */
  embed(ids: Handle, table: Handle, out: Handle, firstId: number, vocabSize: number, scale: number): void;

  /** Updates dTable. */
  embedBackward(dOut: Handle, ids: Handle, dTable: Handle, firstId: number, scale: number): void;

  /** Writes nll, lse. */
  crossEntropy(logits: Handle, targets: Handle, cutoffs: Handle | null, nll: Handle, lse: Handle): void;

  /** Updates logits. */
  crossEntropyBackward(
    dNll: Handle,
    targets: Handle,
    cutoffs: Handle | null,
    lse: Handle,
    logits: Handle,
  ): void;

  /** Writes lse; updates nll. */
  tailCrossEntropy(
    h: Handle,
    weight: Handle,
    bias: Handle,
    targets: Handle,
    nll: Handle,
    lse: Handle,
    firstId: number,
  ): void;

  /** Writes dH; updates dWeight, dBias. */
  tailCrossEntropyBackward(
    dNll: Handle,
    h: Handle,
    weight: Handle,
    bias: Handle,
    targets: Handle,
    lse: Handle,
    dH: Handle,
    dWeight: Handle,
    dBias: Handle,
    firstId: number,
  ): void;

  /** Writes out. */
  reduceSum(x: Handle, out: Handle, scale: number): void;

  /** Updates out. */
  reduceRows(x: Handle, out: Handle, accumulate: boolean): void;

  /** Updates out. */
  sumSquares(x: Handle, out: Handle, accumulate: boolean): void;

  /** Writes norm, factor. */
  clipFactor(sumSquares: Handle, norm: Handle, factor: Handle, maxNorm: number): void;

  /** Writes out. */
  countNonFinite(x: Handle, out: Handle): void;

  /** Updates param, m, v. */
  adam(
    param: Handle,
    grad: Handle,
    m: Handle,
    v: Handle,
    gradScale: Handle | null,
    lr: number,
    beta1: number,
    beta2: number,
    eps: number,
    weightDecay: number,
    decoupled: boolean,
    step: number,
  ): void;

  /** Updates param, momentumBuffer. */
  sgd(
    param: Handle,
    grad: Handle,
    momentumBuffer: Handle | null,
    gradScale: Handle | null,
    lr: number,
    momentum: number,
    weightDecay: number,
    nesterov: boolean,
  ): void;

  /** Updates param, sum. */
  adagrad(
    param: Handle,
    grad: Handle,
    sum: Handle,
    gradScale: Handle | null,
    lr: number,
    eps: number,
    weightDecay: number,
  ): void;

  /** Writes out. */
  randomUniform(out: Handle, low: number, high: number, seed: number, call: number): void;

  /** Writes out. */
  randomNormal(out: Handle, mean: number, std: number, seed: number, call: number): void;
}
