import type { Device } from "../lib/device.js";
import { native } from "../lib/native.js";
import { dispatch } from "../lib/ops/dispatch.js";
import { scope } from "../lib/scope.js";
import { empty, type FloatTensor, zeros } from "../lib/tensor.js";

/** A call to time. */
export interface OpCase {
  name: string;
  /** What one call does: arithmetic where that bounds it, else memory read and written. */
  work: { flops: number } | { bytes: number };
  /** Queues the call on the device. */
  queue: () => void;
}

/** Sizes of the expert layer: those of a small Transformer-XL. */
export interface OpSizes {
  tokens: number;
  dModel: number;
  ffn: number;
  numExperts: number;
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
function expertCases(device: Device, sizes: OpSizes, topK: number): OpCase[] {
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
  const queues: Record<string, () => void> = {
    "grouped_gemm gather+bias+relu": () => forward([x, w1, b1, hidden], { gather: true, relu: true }),
    "grouped_gemm bias": () => forward([hidden, w2, b2, rows], {}),
    "grouped_gemm transposed": () => forward([dHidden, w1, null, rows], { transposeWeight: true }),
    grouped_gemm_dgrad: () =>
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
    grouped_gemm_wgrad: () =>
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
  };
  const work = { flops: 2 * numRouted * dModel * ffn };
  return Object.entries(queues).map(([name, queue]) => ({ name: `${name} k=${topK}`, work, queue }));
}

function gemmCases(device: Device, { tokens, dModel, ffn }: OpSizes): OpCase[] {
  const products: [m: number, n: number, k: number][] = [
    [tokens, ffn, dModel],
    [dModel, dModel, tokens],
    [ffn, ffn, ffn],
  ];
  const layouts = { nn: [false, false], nt: [false, true], tn: [true, false] } as const;
  return products.flatMap(([m, n, k]) => {
    const [a, b, c] = [normal(device, [m * k]), normal(device, [k * n]), zeros([m, n], device)];
    return Object.entries(layouts).map(([layout, [transposeA, transposeB]]) => {
      const left = a.view(transposeA ? [k, m] : [m, k]);
      const right = b.view(transposeB ? [n, k] : [k, n]);
      return {
        name: `gemm ${layout} ${m}x${n}x${k}`,
        work: { flops: 2 * m * n * k },
        queue: () =>
          native().ops.gemm(left.handle, right.handle, null, c.handle, transposeA, transposeB, "none", false),
      };
    });
  });
}

function memoryCases(device: Device, sizes: OpSizes): OpCase[] {
  const { tokens, dModel, parameters, topKs } = sizes;
  const { ops } = native();
  const topK = topKs.at(-1) ?? 1;
  const { inversePermutation } = routing(device, sizes, topK);
  const rows = normal(device, [tokens * topK, dModel]);
  const x = normal(device, [tokens, dModel]);
  const branch = normal(device, [tokens, dModel]);
  const y = zeros([tokens, dModel], device);
  const sum = zeros([tokens, dModel], device);
  const [weight, bias] = [normal(device, [dModel]), normal(device, [dModel])];
  const [mean, rstd] = [zeros([tokens], device), zeros([tokens], device)];
  const param = normal(device, [parameters]);
  const grad = normal(device, [parameters]);
  const [m, v] = [zeros([parameters], device), zeros([parameters], device)];
  const hiddenBytes = 4 * tokens * dModel;
  return [
    {
      name: `combine k=${topK}`,
      work: { bytes: (topK + 1) * hiddenBytes },
      queue: () => ops.combine(rows.handle, inversePermutation.handle, y.handle, topK, false),
    },
    {
      name: "layer_norm with residual",
      work: { bytes: 4 * hiddenBytes },
      queue: () =>
        ops.layerNorm(
          x.handle,
          branch.handle,
          weight.handle,
          bias.handle,
          y.handle,
          sum.handle,
          mean.handle,
          rstd.handle,
          1e-5,
          0,
          0,
          0,
        ),
    },
    {
      name: "adam",
      work: { bytes: 7 * 4 * parameters },
      queue: () =>
        ops.adam(param.handle, grad.handle, m.handle, v.handle, null, 1e-3, 0.9, 0.999, 1e-8, 0, false, 1),
    },
  ];
}

/** Random experts for every token: segments of unequal length. */
function routing(device: Device, { tokens, numExperts }: OpSizes, topK: number) {
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

function normal(device: Device, shape: readonly number[]): FloatTensor {
  const out = zeros(shape, device);
  native().ops.randomNormal(out.handle, 0, 1, 1, 0);
  return out;
}
