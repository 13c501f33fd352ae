import type { Device } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";
import { ExpertProductRun } from "../expert-product.js";
import { MoEBlockRun, type MoEBlockSizes } from "../moe-block.js";
import type { Direction } from "../module-run.js";
import type { Design } from "../peers/gpu-peer.js";
import { RelAttentionRun, type RelAttentionSizes } from "../rel-attention.js";
import type { QueuedWorkload } from "../workload.js";

export type OwnedWorkload = QueuedWorkload & { dispose(): void };

/** A computation of ours in one precision, and who else does it. */
export interface LayerTask {
  name: string;
  dtype: ProductDType;
  topK: number;
  designs: readonly Design[];
  /** The one product that takes as much arithmetic, where the task is a product. */
  gemm: { m: number; n: number; k: number } | null;
  make: (device: Device) => OwnedWorkload;
  /** The same, of a size that the reference can do. Takes {@link smallTopK}. */
  makeSmall: (device: Device) => OwnedWorkload;
}

export interface LayerSizes {
  /** By the name that rows show. */
  moe: Record<string, { sizes: MoEBlockSizes; topKs: readonly number[]; productTopK: number }>;
  attention: RelAttentionSizes;
}

export const fullSizes: LayerSizes = {
  moe: {
    paper: {
      sizes: { numTokens: 11264, dModel: 256, dInner: 512, numExperts: 16 },
      ...{ topKs: [8, 2, 16], productTopK: 8 },
    },
    b4: {
      sizes: { numTokens: 16384, dModel: 2048, dInner: 2048, numExperts: 8 },
      ...{ topKs: [2], productTopK: 2 },
    },
  },
  attention: { qLen: 512, kLen: 1024, batch: 22, numHeads: 8, dHead: 64 },
};

export const smallTopK = 2;
/** What the reference can do; with --quick everything is of this size. */
const small = {
  moe: { numTokens: 192, dModel: 64, dInner: 128, numExperts: 4 },
  attention: { qLen: 48, kLen: 80, batch: 2, numHeads: 2, dHead: 32 },
};
export const quickSizes: LayerSizes = {
  moe: { small: { sizes: small.moe, topKs: [smallTopK], productTopK: smallTopK } },
  attention: small.attention,
};

const designsOf: Record<ProductDType, readonly Design[]> = {
  bf16: ["compiled", "eager", "triton"],
  f32: ["published"],
  tf32: ["published"],
};
const directions: readonly Direction[] = ["forward+backward", "forward"];

/** All tasks, those first that must not be missing when time runs out. */
export function layerTasks({ moe, attention }: LayerSizes): LayerTask[] {
  const sizes = Object.entries(moe);
  return (["bf16", "tf32", "f32"] as const).flatMap((dtype) => [
    ...sizes.flatMap(([name, { sizes, topKs }]) => blockTasks(name, sizes, topKs.slice(0, 1), dtype)),
    ...attentionTasks(attention, dtype),
    ...sizes.flatMap(([name, { sizes, productTopK }]) => productTasks(name, sizes, productTopK, dtype)),
    ...sizes.flatMap(([name, { sizes, topKs }]) => blockTasks(name, sizes, topKs.slice(1), dtype)),
  ]);
}

function blockTasks(
  name: string,
  sizes: MoEBlockSizes,
  topKs: readonly number[],
  dtype: ProductDType,
): LayerTask[] {
  return topKs.flatMap((topK) =>
    directions.map((direction) => ({
      name: `moe_block ${direction} ${name} k=${topK}`,
      ...{ dtype, topK, designs: designsOf[dtype], gemm: null },
      make: (device) => new MoEBlockRun(device, withHiddenBias(sizes), direction),
      makeSmall: (device) => new MoEBlockRun(device, withHiddenBias(small.moe), direction),
    })),
  );
}

function attentionTasks(sizes: RelAttentionSizes, dtype: ProductDType): LayerTask[] {
  const designs = dtype === "bf16" ? (["compiled", "flex", "eager"] as const) : designsOf[dtype];
  return directions.map((direction) => ({
    name: `rel_attention ${direction}`,
    ...{ dtype, topK: 1, designs, gemm: null },
    make: (device) => new RelAttentionRun(device, sizes, direction),
    makeSmall: (device) => new RelAttentionRun(device, small.attention, direction),
  }));
}

function productTasks(name: string, sizes: MoEBlockSizes, topK: number, dtype: ProductDType): LayerTask[] {
  const { numTokens, dModel, dInner } = sizes;
  const designs: readonly Design[] =
    dtype === "bf16" ? ["compiled", "eager", "triton", "ceilings"] : ["ceilings"];
  return (["up", "down"] as const).map((which) => {
    const [n, k] = which === "up" ? [dInner, dModel] : [dModel, dInner];
    return {
      name: `expert_product ${which} ${name} k=${topK}`,
      ...{ dtype, topK, designs, gemm: { m: numTokens * topK, n, k } },
      make: (device) => new ExpertProductRun(device, sizes, topK, which),
      makeSmall: (device) => new ExpertProductRun(device, small.moe, smallTopK, which),
    };
  });
}

/** Eight standard deviations of what the bias is added to. */
function withHiddenBias(sizes: MoEBlockSizes): MoEBlockSizes {
  return { ...sizes, hiddenBias: 8 * 0.02 * Math.sqrt(sizes.dModel) };
}
