// The kernels that decide how long a training step takes, at the sizes of the published set-up and of one layer of a
// large model.
import type { Device } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { empty, indices, zeros } from "../../lib/tensor.js";
import {
  adamCase,
  bytesOf,
  combineCase,
  expertCases,
  expertSumCases,
  gemmLayouts,
  handlesOf,
  layerNormCase,
  type LayerSizes,
  normal,
  type OpCase,
} from "../op-cases.js";
import type { Queue } from "./device-timer.js";

/** What the kernels work on. */
export interface KernelSizes {
  /** The published set-up. */
  paper: LayerSizes & { topKs: readonly number[]; numLayers: number; hyperSize: number; vocabSize: number };
  attention: { qLen: number; memLen: number; batch: number; numHeads: number; dHead: number };
  /** Parameters of the published set-up. */
  parameters: number;
  /** One layer of a large model. */
  b4: LayerSizes & { topKs: readonly number[] };
  /** Products that show what the GPU can do. */
  gemms: readonly (readonly [m: number, n: number, k: number])[];
  copyNumbers: number;
}

export const fullSizes: KernelSizes = {
  paper: {
    ...{ tokens: 11264, dModel: 256, ffn: 512, numExperts: 16, topKs: [2, 8, 16] },
    ...{ numLayers: 4, hyperSize: 256, vocabSize: 204 },
  },
  attention: { qLen: 512, memLen: 512, batch: 22, numHeads: 8, dHead: 64 },
  parameters: 19_500_000,
  b4: { tokens: 16384, dModel: 2048, ffn: 2048, numExperts: 8, topKs: [2] },
  gemms: [
    [4096, 4096, 4096],
    [8192, 8192, 4096],
  ],
  copyNumbers: 64 << 20,
};

/** The same kernels in no time, for tests of the benchmark itself. */
export const quickSizes: KernelSizes = {
  paper: {
    ...{ tokens: 16, dModel: 16, ffn: 24, numExperts: 4, topKs: [2, 4] },
    ...{ numLayers: 2, hyperSize: 8, vocabSize: 20 },
  },
  attention: { qLen: 8, memLen: 8, batch: 2, numHeads: 2, dHead: 8 },
  parameters: 1000,
  b4: { tokens: 16, dModel: 32, ffn: 32, numExperts: 2, topKs: [2] },
  gemms: [[32, 32, 32]],
  copyNumbers: 1000,
};

/** Kernels that share tensors. */
export interface KernelFamily {
  name: string;
  size: "machine" | "paper" | "b4";
  /** Do its products depend on the device's dtype? All others run in f32 alone. */
  hasProducts: boolean;
  build: (device: Device) => OpCase[];
}

export const copyName = "copy";

export function kernelFamilies(sizes: KernelSizes): KernelFamily[] {
  const { paper, b4 } = sizes;
  type Build = KernelFamily["build"];
  const family = (size: KernelFamily["size"], name: string, build: Build, hasProducts = false) => ({
    ...{ size, name, build, hasProducts },
  });
  const products = (size: KernelFamily["size"], name: string, build: Build) =>
    family(size, name, build, true);
  return [
    family("machine", copyName, (device) => [copyCase(device, sizes.copyNumbers)]),
    ...sizes.gemms.map((gemm) =>
      products("machine", `gemm ${gemm.join("x")}`, (device) => gemmLayouts(device, ...gemm)),
    ),
    ...paper.topKs.flatMap((topK) => [
      family("paper", `routing k=${topK}`, (device) => [routingCase(device, paper, topK)]),
      products("paper", `experts k=${topK}`, (device) => expertCases(device, paper, topK)),
      ...(topK === paper.numExperts
        ? [products("paper", "sums over all experts", (device) => expertSumCases(device, paper))]
        : []),
      family("paper", `combine k=${topK}`, (device) => [combineCase(device, paper, topK)]),
      family("paper", `layer_norm k=${topK}`, (device) => [layerNormCase(device, paper, topK)]),
    ]),
    family("paper", "routers", (device) => [generateCase(device, paper)]),
    family("paper", "layer_norm", (device) => [layerNormCase(device, paper)]),
    family("paper", "cross_entropy", (device) => crossEntropyCases(device, paper)),
    family("paper", "adam", (device) => [adamCase(device, sizes.parameters)]),
    products("paper", "attention", (device) => attentionCases(device, sizes.attention)),
    ...b4.topKs.map((topK) => products("b4", `experts k=${topK}`, (device) => expertCases(device, b4, topK))),
  ];
}

/** A kernel whose calls go through several sets of tensors in turn. */
export interface RotatingCase extends Omit<OpCase, "queue"> {
  size: KernelFamily["size"];
  queue: Queue;
  numSets: number;
}

/** More than any cache of a GPU holds. */
const uncachedBytes = 150e6;
const [fewestSets, mostSets] = [4, 16];

/** The cases of a family, with as many sets of tensors as keep their inputs out of the cache. */
export function rotatingCases({ size, build }: KernelFamily, device: Device): RotatingCase[] {
  const first = build(device);
  const bytes = Math.min(...first.map(({ work }) => work.bytes));
  const wanted = Math.min(mostSets, Math.max(fewestSets, Math.ceil(uncachedBytes / bytes)));
  const numSets = bytes < uncachedBytes ? wanted : 1;
  const sets = [first, ...Array.from({ length: numSets - 1 }, () => build(device))];
  return first.map(({ name, work }, i) => ({
    ...{ name, size, work, numSets },
    queue: (call) => sets[call % numSets]?.[i]?.queue(),
  }));
}

/** The most that anything bound by memory can reach. */
function copyCase(device: Device, numbers: number): OpCase {
  const [from, to] = [normal(device, [numbers]), zeros([numbers], device)];
  return {
    name: copyName,
    work: { bytes: bytesOf([from, to]) },
    queue: () => native().copyTensor(from.handle, to.handle),
  };
}

/** From hidden states to rows in expert order: scores, selection, index. */
function routingCase(device: Device, { tokens, dModel, numExperts }: LayerSizes, topK: number): OpCase {
  const x = normal(device, [tokens, dModel]);
  const [weight, bias] = [normal(device, [numExperts, dModel]), normal(device, [numExperts])];
  const logits = zeros([tokens, numExperts], device);
  const chosen = empty("i32", [tokens, topK], device);
  const weights = zeros([tokens, topK], device);
  const offsets = empty("i32", [numExperts + 1], device);
  const order = empty("i32", [tokens * topK], device);
  const inverse = empty("i32", [tokens * topK], device);
  const { ops } = native();
  return {
    name: `router_topk + dispatch k=${topK}`,
    work: { bytes: bytesOf([x, weight, bias, logits, chosen, weights, chosen, offsets, order, inverse]) },
    queue: () => {
      const router = [weight.handle, bias.handle] as const;
      const results = [logits.handle, chosen.handle, weights.handle] as const;
      ops.routerTopk(x.handle, ...router, ...results, topK, "softmax_kept");
      ops.dispatch(chosen.handle, offsets.handle, order.handle, inverse.handle);
    },
  };
}

/** The routers of all layers. */
function generateCase(device: Device, sizes: KernelSizes["paper"]): OpCase {
  const { numLayers, dModel, numExperts, hyperSize } = sizes;
  const numOutputs = numExperts * (dModel + 1);
  const embedding = normal(device, [numLayers, dModel]);
  const w1 = normal(device, [numLayers, hyperSize, dModel]);
  const b1 = normal(device, [numLayers, hyperSize]);
  const w2 = normal(device, [numLayers, numOutputs, hyperSize]);
  const b2 = normal(device, [numLayers, numOutputs]);
  const hidden = zeros([numLayers, hyperSize], device);
  const weight = zeros([numLayers, numExperts, dModel], device);
  const bias = zeros([numLayers, numExperts], device);
  return {
    name: `hyper_router_generate, ${numLayers} layers`,
    work: { bytes: bytesOf([embedding, w1, b1, w2, b2, hidden, weight, bias]) },
    queue: () =>
      native().ops.hyperRouterGenerate(
        embedding.handle,
        w1.handle,
        b1.handle,
        w2.handle,
        b2.handle,
        hidden.handle,
        weight.handle,
        bias.handle,
      ),
  };
}

function crossEntropyCases(device: Device, { tokens, vocabSize }: KernelSizes["paper"]): OpCase[] {
  const logits = normal(device, [tokens, vocabSize]);
  const targets = indices(
    Array.from({ length: tokens }, (_, token) => token % vocabSize),
    [tokens],
    device,
  );
  const [nll, lse] = [zeros([tokens], device), zeros([tokens], device)];
  const dNll = normal(device, [tokens]);
  const gradient = normal(device, [tokens, vocabSize]);
  const { ops } = native();
  return [
    {
      name: "cross_entropy",
      work: { bytes: bytesOf([logits, targets, nll, lse]) },
      queue: () => ops.crossEntropy(logits.handle, targets.handle, null, nll.handle, lse.handle),
    },
    {
      name: "cross_entropy_backward",
      work: { bytes: bytesOf([dNll, targets, lse, gradient, gradient]) },
      queue: () => ops.crossEntropyBackward(dNll.handle, targets.handle, null, lse.handle, gradient.handle),
    },
  ];
}

function attentionCases(device: Device, sizes: KernelSizes["attention"]): OpCase[] {
  const { qLen, memLen, batch, numHeads, dHead } = sizes;
  const [kLen, width] = [memLen + qLen, numHeads * dHead];
  const q = normal(device, [qLen, batch, width]);
  const kv = normal(device, [kLen, batch, 2 * width]);
  const p = normal(device, [kLen, width]);
  const [u, v] = [normal(device, [numHeads, dHead]), normal(device, [numHeads, dHead])];
  const out = zeros([qLen, batch, width], device);
  const lse = zeros([batch, numHeads, qLen], device);
  const dOut = normal(device, [qLen, batch, width]);
  const dQ = zeros([qLen, batch, width], device);
  const dKv = zeros([kLen, batch, 2 * width], device);
  const dP = zeros([kLen, width], device);
  const [dU, dV] = [zeros([numHeads, dHead], device), zeros([numHeads, dHead], device)];
  const forwardTensors = [q, kv, p, u, v, out, lse] as const;
  const gradients = [dQ, dKv, dP, dU, dV] as const;
  const { ops } = native();
  const forward = (): void => ops.relAttention(...handlesOf(forwardTensors), kLen, 0, 0, 0);
  forward(); // backward needs its results
  // Positions that a query sees; one product of all of them is 2 · dHead operations each.
  const pairs = batch * numHeads * (qLen * memLen + (qLen * (qLen + 1)) / 2);
  const flops = (products: number): number => 2 * products * pairs * dHead;
  return [
    {
      name: "rel_attention",
      work: { flops: flops(3), bytes: bytesOf([q, kv, p, out, lse]) },
      queue: forward,
    },
    {
      name: "rel_attention_backward",
      work: { flops: flops(8), bytes: bytesOf([dOut, q, kv, p, out, lse, dQ, dKv, dP]) },
      queue: () =>
        ops.relAttentionBackward(
          dOut.handle,
          ...handlesOf(forwardTensors),
          ...handlesOf(gradients),
          kLen,
          0,
          0,
          0,
        ),
    },
  ];
}
