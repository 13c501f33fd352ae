import type { Device } from "../lib/device.js";
import { type Routing, route } from "../lib/moe/router.js";
import { Routers } from "../lib/moe/routers.js";
import { native } from "../lib/native.js";
import { Initializer } from "../lib/nn/initializer.js";
import { scope } from "../lib/scope.js";
import { empty, type FloatTensor } from "../lib/tensor.js";
import type { MoEBlockSizes } from "./moe-block.js";
import { type HostTensors, type QueuedWorkload, toHost } from "./workload.js";

/** `relu(x · W1ᵀ + b1)` of routed rows that it gathers, or `hidden · W2ᵀ + b2` of rows in expert order. */
export class ExpertProductRun implements QueuedWorkload {
  readonly name: string;
  readonly metadata = new Map<string, string>();
  readonly #routing: Routing;
  readonly #x: FloatTensor;
  readonly #w: FloatTensor;
  readonly #b: FloatTensor;

  constructor(
    private readonly device: Device,
    private readonly sizes: MoEBlockSizes,
    topK: number,
    private readonly which: "up" | "down",
  ) {
    const { numTokens, dModel, dInner, numExperts } = sizes;
    const init = new Initializer({ device });
    const [k, n, rows] = which === "up" ? [dModel, dInner, numTokens] : [dInner, dModel, numTokens * topK];
    this.name = `expert_product ${which}`;
    this.#x = init.normal([rows, k], { std: 1 }).value;
    this.#w = init.normal([numExperts, n, k]).value;
    this.#b = init.normal([numExperts, n]).value;
    const routers = new Routers({ numLayers: 1, numExperts, dModel, topK }, init);
    const tokens = init.normal([numTokens, dModel], { std: 1 }).value;
    this.#routing = scope(() => route(tokens, routers.forward()[0]!));
    tokens.dispose();
    routers.dispose();
  }

  flops(topK: number): number {
    const { numTokens, dModel, dInner } = this.sizes;
    return 2 * numTokens * topK * dModel * dInner;
  }

  async inputs(): Promise<HostTensors> {
    const { expertIndices } = this.#routing;
    const tensors = { x: this.#x, w: this.#w, b: this.#b, expertIndices };
    const copies = Object.entries(tensors).map(async ([name, each]) => [name, await toHost(each)] as const);
    return new Map(await Promise.all(copies));
  }

  async results(topK: number): Promise<HostTensors> {
    return scope(async () => new Map([["y", await toHost(this.#multiply(topK))]]));
  }

  queue(topK: number): void {
    scope(() => void this.#multiply(topK));
  }

  async run(topK: number): Promise<void> {
    this.queue(topK);
    await this.device.settled();
  }

  dispose(): void {
    const { logits, expertIndices, expertWeights, expertOffsets, permutation, inversePermutation } =
      this.#routing;
    const routed = [logits, expertIndices, expertWeights, expertOffsets, permutation, inversePermutation];
    for (const tensor of [this.#x, this.#w, this.#b, ...routed]) tensor.dispose();
  }

  #multiply(topK: number): FloatTensor {
    const { permutation, expertOffsets } = this.#routing;
    const isUp = this.which === "up";
    const out = empty(this.device.float, [permutation.size, this.#b.shape[1] ?? 0], this.device);
    native().ops.groupedGemm(
      this.#x.handle,
      this.#w.handle,
      this.#b.handle,
      null,
      permutation.handle,
      expertOffsets.handle,
      out.handle,
      null,
      topK,
      isUp,
      false,
      "none",
      isUp ? "relu" : "none",
      0,
      0,
      0,
    );
    return out;
  }
}
