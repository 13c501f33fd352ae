import { Initializer } from "../nn/initializer.js";
import { Module } from "../nn/module.js";
import type { ResidualNorm } from "../nn/residual-norm.js";
import { combine } from "../ops/dispatch.js";
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
   * @param norm Residual connection and norm around the experts; null for y of the experts alone.
   * @returns y of the shape of x, and where its tokens went.
   * @example const { y, routing } = layer.forward(x, routers.forward()[0]);
   */
  forward(
    x: FloatTensor,
    router: Router,
    norm: ResidualNorm | null = null,
  ): { y: FloatTensor; routing: Routing } {
    const stream = flattenRows(x);
    const tokens = norm ? norm.input(stream) : stream;
    const routing = route(tokens, router);
    const rows = this.experts.rows(tokens, routing);
    const y = norm ? norm.output(stream, rows) : combine(rows);
    return { y: reshape(y, x.shape), routing };
  }
}
