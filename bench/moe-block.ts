import { backward, record } from "../lib/autograd/tape.js";
import type { Device } from "../lib/device.js";
import { MoELayer } from "../lib/moe/moe-layer.js";
import { Routers } from "../lib/moe/routers.js";
import { Dropout } from "../lib/nn/dropout.js";
import { Initializer } from "../lib/nn/initializer.js";
import { Module } from "../lib/nn/module.js";
import type { Parameter } from "../lib/nn/parameter.js";
import { ResidualNorm } from "../lib/nn/residual-norm.js";
import { scope } from "../lib/scope.js";
import { type FloatTensor, zeros } from "../lib/tensor.js";
import { gradientsOf, type HostTensors, parametersOf, toHost, type Workload } from "./workload.js";

export interface MoEBlockSizes {
  numTokens: number;
  dModel: number;
  dInner: number;
  numExperts: number;
}

/** `LN(x + experts(x))` with a generated router, on an input whose gradient is wanted too. */
class MoEBlock extends Module {
  readonly routers: Routers;
  readonly moe: MoELayer;
  readonly norm: ResidualNorm;
  readonly x: Parameter;

  constructor({ numTokens, dModel, dInner, numExperts }: MoEBlockSizes, init: Initializer) {
    super();
    const dropout = new Dropout(0, init.stream("dropout"));
    this.routers = new Routers({ numLayers: 1, numExperts, dModel }, init);
    this.moe = new MoELayer({ numExperts, dModel, dInner, dropout }, init);
    this.norm = new ResidualNorm({ d: dModel, dropout }, init);
    this.x = init.normal([numTokens, dModel], { std: 1 });
  }

  forward(topK: number): FloatTensor {
    this.routers.topK = topK;
    const x = this.x.value;
    return this.norm.output(x, this.moe.forward(this.norm.input(x), this.routers.forward()[0]!).y);
  }
}

/** A mixture of experts forward, or forward and backward. */
export class MoEBlockRun implements Workload {
  readonly name: string;
  readonly metadata = new Map<string, string>();
  readonly #block: MoEBlock;
  readonly #dY: Parameter;

  constructor(
    private readonly device: Device,
    private readonly sizes: MoEBlockSizes,
    private readonly direction: "forward" | "forward+backward",
  ) {
    const init = new Initializer({ device });
    this.name = `moe_block ${direction}`;
    this.#block = new MoEBlock(sizes, init);
    this.#dY = init.normal([sizes.numTokens, sizes.dModel], { std: 1 });
  }

  /** Of the expert products. */
  flops(topK: number): number {
    const { numTokens, dModel, dInner } = this.sizes;
    return (this.direction === "forward" ? 1 : 3) * 4 * numTokens * topK * dModel * dInner;
  }

  async inputs(): Promise<HostTensors> {
    return (await parametersOf(this.#block)).set("dY", await toHost(this.#dY.value));
  }

  async results(topK: number): Promise<HostTensors> {
    return scope(async () => {
      const y = this.#compute(topK);
      const results =
        this.direction === "forward" ? new Map<string, never>() : await gradientsOf(this.#block);
      return results.set("y", await toHost(y));
    });
  }

  async run(topK: number): Promise<void> {
    scope(() => void this.#compute(topK));
    await this.device.settled();
  }

  #compute(topK: number): FloatTensor {
    if (this.direction === "forward") return this.#block.forward(topK);
    this.#block.zeroGradients();
    return backward(() => {
      const y = this.#block.forward(topK);
      // Stands for a loss whose gradient is dY.
      const loss = zeros([1], this.device);
      record([y], [loss], (gradients) => {
        gradients.add(y, this.#dY.value);
      });
      return { loss, y };
    }).y;
  }
}
