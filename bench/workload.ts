import type { SafetensorsTensor } from "../lib/checkpoint/safetensors.js";
import type { Device } from "../lib/device.js";
import type { Module } from "../lib/nn/module.js";
import type { Tensor } from "../lib/tensor.js";
import type { Runner } from "./compare.js";

/** Tensors on the host by name. */
export type HostTensors = Map<string, SafetensorsTensor>;

/** A computation that we and a peer do from the same numbers. Peers know it by its name. */
export interface Workload {
  readonly name: string;
  /** Sizes that the inputs' shapes do not show. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Arithmetic of the products that dominate it; null where nobody has counted. */
  flops(topK: number): number | null;
  /** What it computes from: parameters under our names, data. */
  inputs(): Promise<HostTensors>;
  /** What it computes, for comparison. */
  results(topK: number): Promise<HostTensors>;
  /** Does it once. */
  run(topK: number): Promise<void>;
}

/** A workload that can be queued without waiting for the device. */
export interface QueuedWorkload extends Workload {
  queue(topK: number): void;
}

export async function toHost(tensor: Tensor): Promise<SafetensorsTensor> {
  const data = await tensor.data();
  return { dtype: data instanceof Int32Array ? "I32" : "F32", shape: tensor.shape, data };
}

export async function parametersOf(module: Module): Promise<HostTensors> {
  const out: HostTensors = new Map();
  for (const [name, { value }] of module.namedParameters()) out.set(name, await toHost(value));
  return out;
}

/** Of the parameters that train. */
export async function gradientsOf(module: Module): Promise<HostTensors> {
  const out: HostTensors = new Map();
  for (const [name, parameter] of module.namedParameters()) {
    if (parameter.trainable) out.set(name, await toHost(parameter.gradient()));
  }
  return out;
}

/** Runs it on a device whose number of threads may be another in between. */
export function timed(workload: Workload, topK: number, device: Device, threads: number): Runner {
  return async () => {
    if (device.threads !== threads) device.setThreads(threads);
    const start = performance.now();
    await workload.run(topK);
    return (performance.now() - start) / 1000;
  };
}
