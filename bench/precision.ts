import { readFileSync } from "node:fs";

import { openDevice } from "../lib/device.js";
import type { Comparison } from "./compare.js";
import { TrainingStep, type TrainingSizes } from "./training-step.js";
import { timed } from "./workload.js";

/** The training step with bf16 products, beside itself in float32. */
export function precisionComparisons(sizes: TrainingSizes, allThreads: number): Comparison[] {
  const f32 = openDevice("cpu");
  const bf16 = openDevice("cpu", { dtype: "bf16" });
  const [ours, theirs] = [new TrainingStep(bf16, sizes), new TrainingStep(f32, sizes)];
  return [...new Set([1, allThreads])].flatMap((threads) =>
    [2, 8].map((topK) => ({
      name: `${ours.name} bf16 k=${topK}`,
      rival: "f32",
      settings: "products, all else the same",
      threads,
      flops: null,
      target: f32.description.startsWith("avx512") && multipliesBf16() ? 1 / 1.5 : null,
      ours: timed(ours, topK, bf16, threads),
      theirs: timed(theirs, topK, f32, threads),
    })),
  );
}

/** Whether the processor has instructions for it. */
function multipliesBf16(): boolean {
  try {
    return readFileSync("/proc/cpuinfo", "utf8").includes("avx512_bf16");
  } catch {
    return false;
  }
}
