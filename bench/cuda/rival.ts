import { join } from "node:path";

import { readSafetensors } from "../../lib/checkpoint/safetensors.js";
import { checkAgreement } from "../agreement.js";
import type { GpuPeer } from "../peers/gpu-peer.js";
import { median } from "../statistics.js";
import type { HostTensors } from "../workload.js";
import type { LayerTask } from "./layer-tasks.js";
import { runsPerTurn, type System } from "./turns.js";

/**
 * How runs follow each other. `queued`: as the host queues them, whose time counts where it is the slower one.
 * `device`: without any gap between kernels; peers replay a CUDA graph.
 */
export type Mode = "queued" | "device";

/** What a peer does for a task, ready to be timed. */
export interface Rival {
  systems: { mode: Mode; system: System }[];
  peakBytes: number | null;
  /** Why it cannot be a CUDA graph, if it cannot. */
  graphObstacle: string | null;
}

export interface RivalInputs {
  task: LayerTask;
  /** The name by which the peer knows the computation. */
  case: string;
  /** A folder with `inputs.safetensors`. */
  folder: string;
  /** Our results. */
  expected: HostTensors;
  tolerance: number;
  rounds: number;
  /** Seconds that are left for it to compile and to compute for the first time. */
  seconds: number;
}

/** @throws {Error} when the peer fails, is too slow to start with, or computes something else. */
export async function openRival(peer: GpuPeer, inputs: RivalInputs): Promise<Rival> {
  const { task, folder, expected, tolerance, rounds, seconds } = inputs;
  const what = { case: inputs.case, topK: task.topK };
  const deadline = performance.now() + 1000 * seconds;
  const call = (name: string, args: Record<string, unknown>) =>
    peer.call(name, args, Math.max(1, (deadline - performance.now()) / 1000));
  await call("load", { case: inputs.case, file: join(folder, "inputs.safetensors") });
  const file = join(folder, "results.safetensors");
  await call("results", { ...what, file });
  checkAgreement("the peer", (await readSafetensors(file)).tensors, expected, tolerance);
  const ready = await call("prepare", what);
  const iterations = runsPerTurn(median(ready["seconds"] as number[]), rounds);
  const graphObstacle = ready["graph"] as string | null;
  const system = (graph: boolean): System => ({
    sample: async () =>
      (await peer.call("run", { ...what, iterations, graph }, seconds))["seconds"] as number[],
  });
  return {
    systems: [
      { mode: "queued", system: system(false) },
      ...(graphObstacle === null ? [{ mode: "device" as const, system: system(true) }] : []),
    ],
    peakBytes: Number(ready["peakBytes"]),
    graphObstacle,
  };
}

/** The product of cuBLAS that takes as much arithmetic, with nothing gathered and nothing added. */
export async function openCeiling(peer: GpuPeer, { task, rounds, seconds }: RivalInputs): Promise<Rival> {
  const sample = async (iterations: number): Promise<number[]> => {
    const reply = await peer.call("gemm", { ...task.gemm, dtype: task.dtype, iterations }, seconds);
    return reply["seconds"] as number[];
  };
  const iterations = runsPerTurn(median(await sample(2)), rounds);
  const system: System = { sample: () => sample(iterations) };
  return { systems: [{ mode: "device", system }], peakBytes: null, graphObstacle: null };
}
