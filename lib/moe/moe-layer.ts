import { Initializer } from "../nn/initializer.js";
import { Module } from "../nn/module.js";
import { flattenRows, reshape } from "../ops/view.js";
import type { FloatTensor } from "../tensor.js";
import { Experts, type ExpertsOptions } from "./experts.js";
import { route, type Router, type Routing } from "./router.js";

/** A sparse mixture of experts. Its router comes with each call: {@link Routers} holds those of all layers. */
export class MoELayer extends Module {
  readonly experts: Experts;

  constructor(options: ExpertsOptions, init = new Initializer()) {
    super();
    this.experts = new Experts(options, init);
  }

  /**
   * @param x `[..., dModel]`; router and experts see the same values.
   * @returns y of the shape of x, and where its tokens went.
   * @example const { y, routing } = layer.forward(x, routers.forward()[0]);
   */
  forward(x: FloatTensor, router: Router): { y: FloatTensor; routing: Routing } {
    const tokens = flattenRows(x);
    const routing = route(tokens, router);
    return { y: reshape(this.experts.forward(tokens, routing), x.shape), routing };
  }
}
