import { backward, record } from "../lib/autograd/tape.js";
import type { Device } from "../lib/device.js";
import type { Module } from "../lib/nn/module.js";
import type { Parameter } from "../lib/nn/parameter.js";
import { scope } from "../lib/scope.js";
import { type FloatTensor, zeros } from "../lib/tensor.js";
import { gradientsOf, type HostTensors, parametersOf, type QueuedWorkload, toHost } from "./workload.js";

export type Direction = "forward" | "forward+backward";

/** A module whose inputs are parameters of it too, run forward, or forward and back from a given gradient dY. */
export abstract class ModuleRun<M extends Module> implements QueuedWorkload {
  readonly name: string;
  readonly metadata = new Map<string, string>();

  constructor(
    what: string,
    private readonly device: Device,
    private readonly module: M,
    private readonly dY: Parameter,
    private readonly direction: Direction,
  ) {
    this.name = `${what} ${direction}`;
  }

  abstract flops(topK: number): number;

  protected abstract forward(module: M, topK: number): FloatTensor;

  /** Times the arithmetic of forward; backward has two products for each of its products. */
  protected get passes(): number {
    return this.direction === "forward" ? 1 : 3;
  }

  async inputs(): Promise<HostTensors> {
    return (await parametersOf(this.module)).set("dY", await toHost(this.dY.value));
  }

  async results(topK: number): Promise<HostTensors> {
    return scope(async () => {
      const y = this.#compute(topK);
      const results =
        this.direction === "forward" ? new Map<string, never>() : await gradientsOf(this.module);
      return results.set("y", await toHost(y));
    });
  }

  queue(topK: number): void {
    scope(() => void this.#compute(topK));
  }

  async run(topK: number): Promise<void> {
    this.queue(topK);
    await this.device.settled();
  }

  dispose(): void {
    this.module.dispose();
    this.dY.dispose();
  }

  #compute(topK: number): FloatTensor {
    if (this.direction === "forward") return this.forward(this.module, topK);
    this.module.zeroGradients();
    return backward(() => {
      const y = this.forward(this.module, topK);
      // Stands for a loss whose gradient is dY.
      const loss = zeros([1], this.device);
      record([y], [loss], (gradients) => {
        gradients.add(y, this.dY.value);
      });
      return { loss, y };
    }).y;
  }
}
