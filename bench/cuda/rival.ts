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
  systems: { mode: Mode; sample: System["sample"] }[];
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
  const runSeconds = median(ready["seconds"] as number[]);
  const iterations = runsPerTurn(runSeconds, rounds);
  const graphObstacle = ready["graph"] as string | null;
  const sample = async (graph: boolean): Promise<number[]> => {
    const reply = await peer.call("run", { ...what, iterations, graph }, mostSeconds(iterations, runSeconds));
    return reply["seconds"] as number[];
  };
  return {
    systems: [
      { mode: "queued", sample: () => sample(false) },
      ...(graphObstacle === null ? [{ mode: "device" as const, sample: () => sample(true) }] : []),
    ],
    peakBytes: Number(ready["peakBytes"]),
    graphObstacle,
  };
}

/** What a peer may take for runs that have taken `runSeconds` each: much more, and time to warm up. */
function mostSeconds(iterations: number, runSeconds: number): number {
  return 20 + 10 * iterations * runSeconds;
}

/** The product of cuBLAS that takes as much arithmetic, with nothing gathered and nothing added. */
export async function openCeiling(peer: GpuPeer, { task, rounds, seconds }: RivalInputs): Promise<Rival> {
  const sample = async (iterations: number, limit: number): Promise<number[]> => {
    const reply = await peer.call("gemm", { ...task.gemm, dtype: task.dtype, iterations }, limit);
    return reply["seconds"] as number[];
  };
  const runSeconds = median(await sample(2, seconds));
  const iterations = runsPerTurn(runSeconds, rounds);
  return {
    systems: [{ mode: "device", sample: () => sample(iterations, mostSeconds(iterations, runSeconds)) }],
    ...{ peakBytes: null, graphObstacle: null },
  };
}
