import type { Device } from "../lib/device.js";
import { MoELayer } from "../lib/moe/moe-layer.js";
import { Routers } from "../lib/moe/routers.js";
import { Dropout } from "../lib/nn/dropout.js";
import { Initializer } from "../lib/nn/initializer.js";
import { Module } from "../lib/nn/module.js";
import type { Parameter } from "../lib/nn/parameter.js";
import { ResidualNorm } from "../lib/nn/residual-norm.js";
import type { FloatTensor } from "../lib/tensor.js";
import { type Direction, ModuleRun } from "./module-run.js";

export interface MoEBlockSizes {
  numTokens: number;
  dModel: number;
  dInner: number;
  numExperts: number;
  /**
   * Is added and subtracted, in turns, before the experts' relu. Large enough, and rounding switches no unit on or off,
   * so that gradients of any two precisions can be compared.
   */
  hiddenBias?: number;
}

/** `LN(x + experts(x))` with a generated router, on an input whose gradient is wanted too. */
class MoEBlock extends Module {
  readonly routers: Routers;
  readonly moe: MoELayer;
  readonly norm: ResidualNorm;
  readonly x: Parameter;

  constructor(sizes: MoEBlockSizes, init: Initializer) {
    super();
    const { numTokens, dModel, dInner, numExperts, hiddenBias = 0 } = sizes;
    const dropout = new Dropout(0, init.stream("dropout"));
    this.routers = new Routers({ numLayers: 1, numExperts, dModel }, init);
    this.moe = new MoELayer({ numExperts, dModel, dInner, dropout }, init);
    this.norm = new ResidualNorm({ d: dModel, dropout }, init);
    this.x = init.normal([numTokens, dModel], { std: 1 });
    if (hiddenBias > 0) {
      const { b1 } = this.moe.experts;
      b1.set(Float32Array.from({ length: b1.size }, (_, i) => (i % 2 === 0 ? hiddenBias : -hiddenBias)));
    }
  }

  forward(topK: number): FloatTensor {
    this.routers.topK = topK;
    return this.moe.forward(this.x.value, this.routers.forward()[0]!, this.norm).y;
  }
}

/** A mixture of experts forward, or forward and backward. */
export class MoEBlockRun extends ModuleRun<MoEBlock> {
  constructor(
    device: Device,
    private readonly sizes: MoEBlockSizes,
    direction: Direction,
  ) {
    const init = new Initializer({ device });
    const block = new MoEBlock(sizes, init);
    const dY = init.normal([sizes.numTokens, sizes.dModel], { std: 1 });
    super("moe_block", device, block, dY, direction);
  }

  /** Of the expert products. */
  flops(topK: number): number {
    const { numTokens, dModel, dInner } = this.sizes;
    return this.passes * 4 * numTokens * topK * dModel * dInner;
  }

  protected forward(block: MoEBlock, topK: number): FloatTensor {
    return block.forward(topK);
  }
}
