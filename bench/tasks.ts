import type { Device } from "../lib/device.js";
import { MoEBlockRun, type MoEBlockSizes } from "./moe-block.js";
import type { PeerTask } from "./peer-comparisons.js";
import type { PeerKind } from "./peers/peer-kind.js";
import { pyTorch } from "./peers/pytorch.js";
import { tfjs } from "./peers/tfjs.js";
import { TrainingStep, type TrainingSizes } from "./training-step.js";
import type { Workload } from "./workload.js";

export interface TaskSizes {
  moe: MoEBlockSizes;
  training: TrainingSizes;
}

export const fullTasks: TaskSizes = {
  moe: { numTokens: 2048, dModel: 256, dInner: 512, numExperts: 16 },
  training: {
    model: {
      ...{ vocabSize: 205, numLayers: 4, dModel: 256, numHeads: 8, dHead: 64, dInner: 512, memLen: 128 },
      ...{ dropout: 0.1, moe: { numExperts: 16 } },
    },
    seqLen: 128,
    batchSize: 4,
  },
};

/** The same in no time, for tests of the benchmark itself. */
export const quickTasks: TaskSizes = {
  moe: { ...fullTasks.moe, numTokens: 64 },
  training: {
    ...fullTasks.training,
    model: { ...fullTasks.training.model, numLayers: 1, dModel: 32, dInner: 32, memLen: 8 },
    seqLen: 8,
  },
};

/** What is compared with peers, and how fast it ought to be. */
export function peerTasks(device: Device, sizes: TaskSizes, allThreads: number): PeerTask[] {
  const block = new MoEBlockRun(device, sizes.moe, "forward+backward");
  const forward = new MoEBlockRun(device, sizes.moe, "forward");
  const step = new TrainingStep(device, sizes.training);
  const threadCounts = [...new Set([1, allThreads])];
  const task = (
    kind: PeerKind,
    workload: Workload,
    topK: number,
    threads: number,
    target: number | null,
  ) => ({
    ...{ kind, workload, topK, threads, target, name: `${workload.name} k=${topK}`, rival: kind.name },
    flops: workload.flops(topK),
  });
  return threadCounts.flatMap((threads) => [
    task(pyTorch, block, 2, threads, 0.8),
    task(pyTorch, block, 8, threads, 0.9),
    task(pyTorch, block, 16, threads, 0.9),
    task(pyTorch, step, 2, threads, 0.55),
    task(pyTorch, step, 8, threads, 0.65),
    // It has one thread, whatever we use.
    task(tfjs, forward, 2, threads, threads === allThreads ? 1 / 4 : null),
    task(tfjs, forward, 8, threads, threads === allThreads ? 1 / 4 : null),
  ]);
}
