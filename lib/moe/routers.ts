import { ConfigError } from "../errors.js";
import { Initializer } from "../nn/initializer.js";
import { Module } from "../nn/module.js";
import type { Parameter } from "../nn/parameter.js";
import { checkInteger } from "../options.js";
import type { Weighting } from "../ops/router.js";
import { at } from "../ops/view.js";
import { type Gate, type GateName, gateOf } from "./gates.js";
import {
  HyperRouters,
  type HypernetworkOptions,
  type RouterSizes,
  type RouterWeights,
} from "./hyper-routers.js";
import type { Router } from "./router.js";

/** A module whose parameters make all layers' routers. */
export type RouterSource = Module & { forward(): RouterWeights };

/** Makes a router source of your own. */
export type RouterSourceFactory = (sizes: RouterSizes, init: Initializer) => RouterSource;

export interface RoutersOptions extends HypernetworkOptions {
  /** Number of mixture-of-experts layers. */
  numLayers: number;
  numExperts: number;
  dModel: number;
  /** Experts kept per token, 1 to numExperts. Default 2. */
  topK?: number;
  /** A named gate, or a row of your own. Default "hyper-router". */
  gate?: GateName | Gate;
  /** Where the routers come from. Default: what the gate says; it still says whether they are frozen. */
  routerSource?: RouterSourceFactory;
}

/** Routers that are parameters themselves. They start as N(0, std²), their biases as 0. */
export class LinearRouters extends Module {
  /** `[numLayers, numExperts, dModel]` */
  readonly weight: Parameter;
  /** `[numLayers, numExperts]` */
  readonly bias: Parameter;

  constructor(numLayers: number, numExperts: number, dModel: number, init = new Initializer()) {
    super();
    this.weight = init.normal([numLayers, numExperts, dModel]);
    this.bias = init.zeros([numLayers, numExperts]);
  }

  forward(): RouterWeights {
    return { weight: this.weight.value, bias: this.bias.value };
  }
}

/** The routers of all layers, stacked, and the one place that says how many experts a token gets. */
export class Routers extends Module {
  readonly numLayers: number;
  readonly numExperts: number;
  readonly source: RouterSource;
  readonly gate: Gate;
  /** How kept experts are weighted. From the gate; `uniform` with k = E is the plain average of all experts. */
  weighting: Weighting;
  #topK = 1;

  constructor(options: RoutersOptions, init = new Initializer()) {
    super();
    const { numLayers, numExperts, dModel, topK = Math.min(2, numExperts) } = options;
    for (const [key, value] of Object.entries({ numLayers, numExperts, dModel })) checkInteger(key, value, 1);
    const gate = gateOf(options.gate ?? "hyper-router");
    this.numLayers = numLayers;
    this.numExperts = numExperts;
    this.gate = gate;
    this.weighting = gate.weighting;
    const makeSource = options.routerSource ?? sourceOf(gate, options);
    this.source = makeSource({ numLayers, numExperts, dModel }, init);
    if (gate.weights === "frozen") this.source.freeze();
    this.topK = topK;
  }

  /** Experts kept per token, in every layer. May change at any time. */
  get topK(): number {
    return this.#topK;
  }

  /** @throws {ConfigError} unless 1 <= topK <= numExperts. */
  set topK(topK: number) {
    if (!Number.isInteger(topK) || topK < 1 || topK > this.numExperts) {
      throw new ConfigError(
        "topK",
        topK,
        `topK is ${String(topK)}, but there are ${String(this.numExperts)} experts`,
        `use an integer from 1 to ${String(this.numExperts)}, or more experts`,
      );
    }
    this.#topK = topK;
  }

  /** One router per layer, in order. */
  forward(): Router[] {
    const { weight, bias } = this.source.forward();
    const gate = { ...this.gate, weighting: this.weighting };
    return Array.from({ length: this.numLayers }, (_, layer) => ({
      weight: at(weight, layer),
      bias: at(bias, layer),
      topK: this.#topK,
      gate,
    }));
  }
}

function sourceOf(gate: Gate, options: HypernetworkOptions): RouterSourceFactory {
  return (sizes, init) =>
    gate.weights === "generated"
      ? new HyperRouters(sizes, options, init)
      : new LinearRouters(sizes.numLayers, sizes.numExperts, sizes.dModel, init);
}
