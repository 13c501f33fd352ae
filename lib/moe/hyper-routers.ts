import { isRecording } from "../autograd/tape.js";
import { Initializer } from "../nn/initializer.js";
import { Module } from "../nn/module.js";
import type { Parameter } from "../nn/parameter.js";
import { checkChoice, checkInteger } from "../options.js";
import { generateRouters } from "../ops/hyper-router.js";
import type { FloatTensor } from "../tensor.js";

export interface HypernetworkOptions {
  /** Width of the hypernetwork's hidden layer. Default 256. */
  hyperSize?: number;
  /** Size of a router embedding. Default: dModel. */
  embedDim?: number;
  /** A hypernetwork of its own for each layer, or one for all. Default "per-layer". */
  hypernetScope?: "per-layer" | "shared";
  /** Leave the hypernetwork as drawn. Default true. */
  freezeHypernet?: boolean;
  /** Leave the embeddings as drawn too, so that routers never change. Default false. */
  freezeEmbedding?: boolean;
}

/** How many routers, and of what shape. */
export interface RouterSizes {
  numLayers: number;
  numExperts: number;
  dModel: number;
}

/** Weights and biases of all layers' routers. */
export interface RouterWeights {
  /** `[numLayers, numExperts, dModel]` */
  weight: FloatTensor;
  /** `[numLayers, numExperts]` */
  bias: FloatTensor;
}

/**
 * Generated routers (HyperRouter, Do et al. 2023): a hypernetwork, frozen by default, turns one trained embedding per
 * layer into that layer's router. Embeddings start as N(0, 1), hypernetwork weights as N(0, std²), its biases as 0.
 */
export class HyperRouters extends Module {
  /** `[numLayers, embedDim]` */
  readonly embeddings: Parameter;
  /** `[numNetworks, hyperSize, embedDim]`; numNetworks is 1 when shared, else numLayers. */
  readonly w1: Parameter;
  /** `[numNetworks, hyperSize]` */
  readonly b1: Parameter;
  /** `[numNetworks, numExperts · (dModel + 1), hyperSize]`: per expert its weights, then its bias. */
  readonly w2: Parameter;
  /** `[numNetworks, numExperts · (dModel + 1)]` */
  readonly b2: Parameter;
  readonly #numExperts: number;
  #cache: (RouterWeights & { versions: string }) | undefined;

  constructor(sizes: RouterSizes, options: HypernetworkOptions = {}, init = new Initializer()) {
    super();
    const { numLayers, numExperts, dModel } = sizes;
    const { hyperSize = 256, embedDim = dModel, hypernetScope = "per-layer" } = options;
    const { freezeHypernet = true, freezeEmbedding = false } = options;
    checkChoice("hypernetScope", hypernetScope, ["per-layer", "shared"]);
    checkInteger("hyperSize", hyperSize, 1);
    checkInteger("embedDim", embedDim, 1);
    const numNetworks = hypernetScope === "shared" ? 1 : numLayers;
    const outputs = numExperts * (dModel + 1);
    const purpose = "hypernetwork";
    this.embeddings = init.normal([numLayers, embedDim], { std: 1, purpose: "router-embedding" });
    this.w1 = init.normal([numNetworks, hyperSize, embedDim], { purpose });
    this.b1 = init.zeros([numNetworks, hyperSize]);
    this.w2 = init.normal([numNetworks, outputs, hyperSize], { purpose });
    this.b2 = init.zeros([numNetworks, outputs]);
    this.#numExperts = numExperts;
    for (const parameter of [this.w1, this.b1, this.w2, this.b2]) parameter.trainable = !freezeHypernet;
    this.embeddings.trainable = !freezeEmbedding;
  }

  /** All layers' routers in one call. Generated again only when a parameter changed or a gradient is wanted. */
  forward(): RouterWeights {
    const parameters = this.parameters();
    if (isRecording() && parameters.some(({ trainable }) => trainable)) return this.#generate();
    const versions = parameters.map(({ version }) => version).join();
    if (this.#cache?.versions !== versions) {
      this.disposeBuffers();
      const { weight, bias } = this.#generate();
      this.#cache = { weight: weight.keep(), bias: bias.keep(), versions };
    }
    return this.#cache;
  }

  protected override disposeBuffers(): void {
    this.#cache?.weight.dispose();
    this.#cache?.bias.dispose();
    this.#cache = undefined;
  }

  #generate(): RouterWeights {
    const { w1, b1, w2, b2 } = this;
    const hypernetwork = { w1: w1.value, b1: b1.value, w2: w2.value, b2: b2.value };
    return generateRouters(this.embeddings.value, hypernetwork, this.#numExperts);
  }
}
