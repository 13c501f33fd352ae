import type { Device } from "../lib/device.js";
import { Initializer } from "../lib/nn/initializer.js";
import { Module } from "../lib/nn/module.js";
import type { Parameter } from "../lib/nn/parameter.js";
import { relAttention } from "../lib/ops/rel-attention.js";
import type { FloatTensor } from "../lib/tensor.js";
import { type Direction, ModuleRun } from "./module-run.js";

export interface RelAttentionSizes {
  qLen: number;
  kLen: number;
  batch: number;
  numHeads: number;
  dHead: number;
}

/** What the op takes, so that each input has a gradient. */
class RelAttentionInputs extends Module {
  readonly q: Parameter;
  readonly kv: Parameter;
  readonly p: Parameter;
  readonly u: Parameter;
  readonly v: Parameter;

  constructor({ qLen, kLen, batch, numHeads, dHead }: RelAttentionSizes, init: Initializer) {
    super();
    const width = numHeads * dHead;
    const normal = (...shape: number[]) => init.normal(shape, { std: 1 });
    this.q = normal(qLen, batch, width);
    this.kv = normal(kLen, batch, 2 * width);
    this.p = normal(kLen, width);
    this.u = normal(numHeads, dHead);
    this.v = normal(numHeads, dHead);
  }
}

/** Attention with relative positions alone, without its projections; `topK` means nothing to it. */
export class RelAttentionRun extends ModuleRun<RelAttentionInputs> {
  constructor(
    device: Device,
    private readonly sizes: RelAttentionSizes,
    direction: Direction,
  ) {
    const { qLen, batch, numHeads, dHead } = sizes;
    const init = new Initializer({ device });
    const dY = init.normal([qLen, batch, numHeads * dHead], { std: 1 });
    super("rel_attention", device, new RelAttentionInputs(sizes, init), dY, direction);
  }

  /** Of the three products, without the pairs that the causal mask blocks; back, each counts twice. */
  flops(): number {
    const { qLen, kLen, batch, numHeads, dHead } = this.sizes;
    const pairs = qLen * kLen - (qLen * (qLen - 1)) / 2;
    return this.passes * 3 * 2 * pairs * batch * numHeads * dHead;
  }

  protected forward({ q, kv, p, u, v }: RelAttentionInputs): FloatTensor {
    return relAttention(q.value, kv.value, p.value, u.value, v.value);
  }
}
