import type { Device } from "../lib/device.js";
import { type Handle, native } from "../lib/native.js";
import { dispatch } from "../lib/ops/dispatch.js";
import { scope } from "../lib/scope.js";
import { empty, type FloatTensor, type Tensor, zeros } from "../lib/tensor.js";

/** A call to time. */
export interface OpCase {
  name: string;
  /** What one call does: memory read and written, each byte once, and its arithmetic where that may bound it. */
  work: { bytes: number } | { bytes: number; flops: number };
  /** Queues the call on the device. */
  queue: () => void;
}

/** Sizes of an expert layer. */
export interface LayerSizes {
  tokens: number;
  dModel: number;
  ffn: number;
  numExperts: number;
}

/** Those of a small Transformer-XL. */
export interface OpSizes extends LayerSizes {
  topKs: readonly number[];
  /** Elements that Adam updates. */
  parameters: number;
}

export const fullSizes: OpSizes = {
  tokens: 2048,
  dModel: 256,
  ffn: 512,
  numExperts: 16,
  topKs: [2, 8],
  parameters: 4 << 20,
};
/** The same cases in no time, for tests of the benchmark itself. */
export const quickSizes: OpSizes = { ...fullSizes, tokens: 64, parameters: 1 << 16 };

export function opCases(device: Device, sizes: OpSizes): OpCase[] {
  return [
    ...sizes.topKs.flatMap((topK) => expertCases(device, sizes, topK)),
    ...gemmCases(device, sizes),
    ...memoryCases(device, sizes),
  ];
}

/** The matrix products of an expert layer, forward and backward, as lib/ops/grouped-gemm.ts calls them. */
export function expertCases(device: Device, sizes: LayerSizes, topK: number): OpCase[] {
  const { tokens, dModel, ffn, numExperts } = sizes;
  const { ops } = native();
  const numRouted = tokens * topK;
  const { permutation, expertOffsets, scale } = routing(device, sizes, topK);
  const x = normal(device, [tokens, dModel]);
  const w1 = normal(device, [numExperts, ffn, dModel]);
  const b1 = normal(device, [numExperts, ffn]);
  const w2 = normal(device, [numExperts, dModel, ffn]);
  const b2 = normal(device, [numExperts, dModel]);
  const hidden = normal(device, [numRouted, ffn]);
  const rows = normal(device, [numRouted, dModel]);
  const dHidden = normal(device, [numRouted, ffn]);
  const dScale = zeros([numRouted], device);
  const dW1 = zeros([numExperts, ffn, dModel], device);
  const dB1 = zeros([numExperts, ffn], device);

  const forward = (
    [a, weight, bias, out]: [FloatTensor, FloatTensor, FloatTensor | null, FloatTensor],
    { gather = false, transposeWeight = false, relu = false },
  ): void =>
    ops.groupedGemm(
      a.handle,
      weight.handle,
      bias?.handle ?? null,
      bias && scale.handle,
      permutation.handle,
      expertOffsets.handle,
      out.handle,
      null,
      topK,
      gather,
      transposeWeight,
      bias ? (relu ? "output" : "bias") : "none",
      relu ? "relu" : "none",
      0,
      0,
      0,
    );
  const flops = 2 * numRouted * dModel * ffn;
  const product = (name: string, tensors: readonly Tensor[], queue: () => void): OpCase => ({
    name: `${name} k=${topK}`,
    work: { flops, bytes: bytesOf([...tensors, permutation]) },
    queue,
  });
  return [
    product("grouped_gemm gather+bias+relu", [x, w1, b1, scale, hidden], () =>
      forward([x, w1, b1, hidden], { gather: true, relu: true }),
    ),
    product("grouped_gemm bias", [hidden, w2, b2, scale, rows], () => forward([hidden, w2, b2, rows], {})),
    product("grouped_gemm transposed", [dHidden, w1, rows], () =>
      forward([dHidden, w1, null, rows], { transposeWeight: true }),
    ),
    product("grouped_gemm_dgrad", [x, w2, b2, scale, hidden, dHidden, dScale], () =>
      ops.groupedGemmDgrad(
        x.handle,
        w2.handle,
        b2.handle,
        scale.handle,
        hidden.handle,
        null,
        permutation.handle,
        expertOffsets.handle,
        dHidden.handle,
        dScale.handle,
        topK,
        "relu",
        0,
        0,
        0,
      ),
    ),
    // Adds to gradients that are there: reads and writes them.
    product("grouped_gemm_wgrad", [dHidden, x, dW1, dW1, dB1, dB1], () =>
      ops.groupedGemmWgrad(
        dHidden.handle,
        x.handle,
        null,
        permutation.handle,
        expertOffsets.handle,
        dW1.handle,
        dB1.handle,
        topK,
        false,
        true,
        true,
      ),
    ),
  ];
}

/** Those that sum over the experts of a token, where all tokens go to all experts. */
export function expertSumCases(device: Device, sizes: LayerSizes): OpCase[] {
  const { tokens, dModel, ffn, numExperts } = sizes;
  const { permutation, expertOffsets, scale } = routing(device, sizes, numExperts);
  const hidden = normal(device, [tokens * numExperts, ffn]);
  const w1 = normal(device, [numExperts, ffn, dModel]);
  const w2 = normal(device, [numExperts, dModel, ffn]);
  const b2 = normal(device, [numExperts, dModel]);
  const y = zeros([tokens, dModel], device);
  const product = (name: string, weight: FloatTensor, bias: FloatTensor | null): OpCase => ({
    name: `grouped_gemm_sum ${name} k=${numExperts}`,
    work: {
      flops: 2 * tokens * numExperts * dModel * ffn,
      bytes: bytesOf([hidden, weight, y, permutation, ...(bias ? [bias, scale] : [])]),
    },
    queue: () =>
      native().ops.groupedGemmSum(
        hidden.handle,
        weight.handle,
        bias?.handle ?? null,
        bias && scale.handle,
        permutation.handle,
        expertOffsets.handle,
        y.handle,
        bias === null,
        false,
      ),
  });
  return [product("bias", w2, b2), product("transposed", w1, null)];
}

function gemmCases(device: Device, { tokens, dModel, ffn }: OpSizes): OpCase[] {
  const products: [m: number, n: number, k: number][] = [
    [tokens, ffn, dModel],
    [dModel, dModel, tokens],
    [ffn, ffn, ffn],
  ];
  return products.flatMap((sizesOfProduct) => gemmLayouts(device, ...sizesOfProduct));
}

/** C = A·B, A·Bᵀ and Aᵀ·B of one size. */
export function gemmLayouts(device: Device, m: number, n: number, k: number): OpCase[] {
  const layouts = { nn: [false, false], nt: [false, true], tn: [true, false] } as const;
  const [a, b, c] = [normal(device, [m * k]), normal(device, [k * n]), zeros([m, n], device)];
  return Object.entries(layouts).map(([layout, [transposeA, transposeB]]) => {
    const left = a.view(transposeA ? [k, m] : [m, k]);
    const right = b.view(transposeB ? [n, k] : [k, n]);
    return {
      name: `gemm ${layout} ${m}x${n}x${k}`,
      work: { flops: 2 * m * n * k, bytes: bytesOf([a, b, c]) },
      queue: () =>
        native().ops.gemm(left.handle, right.handle, null, c.handle, transposeA, transposeB, "none", false),
    };
  });
}

function memoryCases(device: Device, sizes: OpSizes): OpCase[] {
  return [
    combineCase(device, sizes, sizes.topKs.at(-1) ?? 1),
    layerNormCase(device, sizes),
    layerNormCase(device, sizes, sizes.topKs.at(-1) ?? 1),
    adamCase(device, sizes.parameters),
  ];
}

export function combineCase(device: Device, sizes: LayerSizes, topK: number): OpCase {
  const { tokens, dModel } = sizes;
  const { inversePermutation } = routing(device, sizes, topK);
  const rows = normal(device, [tokens * topK, dModel]);
  const y = zeros([tokens, dModel], device);
  return {
    name: `combine k=${topK}`,
    work: { bytes: bytesOf([rows, y]) },
    queue: () => native().ops.combine(rows.handle, inversePermutation.handle, y.handle, topK, false),
  };
}

/** @param topK Rows that the op sums for its branch; null for a branch that is there. */
export function layerNormCase(device: Device, sizes: LayerSizes, topK: number | null = null): OpCase {
  const { tokens, dModel } = sizes;
  const inverse = topK === null ? null : routing(device, sizes, topK).inversePermutation;
  const x = normal(device, [tokens, dModel]);
  const branch = normal(device, [tokens * (topK ?? 1), dModel]);
  const y = zeros([tokens, dModel], device);
  const sum = zeros([tokens, dModel], device);
  const [weight, bias] = [normal(device, [dModel]), normal(device, [dModel])];
  const [mean, rstd] = [zeros([tokens], device), zeros([tokens], device)];
  return {
    name: topK === null ? "layer_norm with residual" : `layer_norm of routed rows k=${topK}`,
    work: { bytes: bytesOf([x, branch, y, sum]) },
    queue: () =>
      native().ops.layerNorm(
        x.handle,
        branch.handle,
        inverse?.handle ?? null,
        weight.handle,
        bias.handle,
        y.handle,
        sum.handle,
        mean.handle,
        rstd.handle,
        topK ?? 1,
        1e-5,
        0,
        0,
        0,
      ),
  };
}

/** Taken at each call: tensors live as long as something that will run refers to them. */
export function handlesOf<T extends readonly FloatTensor[]>(tensors: T): { [Index in keyof T]: Handle } {
  return tensors.map((tensor) => tensor.handle) as { [Index in keyof T]: Handle };
}

export function adamCase(device: Device, parameters: number): OpCase {
  const [param, grad] = [normal(device, [parameters]), normal(device, [parameters])];
  const [m, v] = [zeros([parameters], device), zeros([parameters], device)];
  const tensors = [param, grad, m, v] as const;
  return {
    name: "adam",
    work: { bytes: bytesOf([param, m, v]) * 2 + bytesOf([grad]) },
    queue: () => native().ops.adam(...handlesOf(tensors), null, 1e-3, 0.9, 0.999, 1e-8, 0, false, 1),
  };
}

/** Random experts for every token: segments of unequal length. */
function routing(device: Device, { tokens, numExperts }: LayerSizes, topK: number) {
  return scope(() => {
    const logits = normal(device, [tokens, numExperts]);
    const expertIndices = empty("i32", [tokens, topK] as [number, number], device);
    const weights = zeros([tokens, topK], device);
    const { ops } = native();
    ops.routerTopk(
      null,
      null,
      null,
      logits.handle,
      expertIndices.handle,
      weights.handle,
      topK,
      "softmax_kept",
    );
    return { ...dispatch(expertIndices, numExperts), scale: weights.view([tokens * topK]) };
  });
}

export function normal(device: Device, shape: readonly number[]): FloatTensor {
  const out = zeros(shape, device);
  native().ops.randomNormal(out.handle, 0, 1, 1, 0);
  return out;
}

/** All tensors, in f32 or i32. */
export function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { size }) => sum + 4 * size, 0);
}
