import { Parameter } from "./parameter.js";

/**
 * A part of a model. Parameters and submodules are found in the module's own fields, in the order in which they
 * were assigned; fields may hold arrays of them. A parameter's name is its path: `layers.0.attention.qkv.weight`.
 */
export abstract class Module {
  /** Whether dropout is active. Set by `train()` and `eval()`. */
  training = true;

  /** Parameters by name. One that is shared by two modules appears once, under its first name. */
  *namedParameters(): Generator<[name: string, parameter: Parameter]> {
    const seen = new Set<Parameter>();
    for (const [name, part] of this.#parts()) {
      if (!(part instanceof Parameter) || seen.has(part)) continue;
      seen.add(part);
      yield [name, part];
    }
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** This module and all below it, with their paths. */
  *namedModules(): Generator<[name: string, module: Module]> {
    yield ["", this];
    for (const [name, part] of this.#parts()) {
      if (part instanceof Module) yield [name, part];
    }
  }

  train(training = true): this {
    for (const [, module] of this.namedModules()) module.training = training;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** Stops the training of all parameters below: no gradient, no update, not counted in the gradient norm. */
  freeze(frozen = true): this {
    for (const parameter of this.parameters()) parameter.trainable = !frozen;
    return this;
  }

  zeroGradients(): void {
    for (const parameter of this.parameters()) parameter.zeroGradient();
  }

  /** Number of elements of all parameters, or of the trainable ones. */
  countParameters(which: "all" | "trainable" = "all"): number {
    return this.parameters().reduce(
      (count, parameter) => count + (which === "all" || parameter.trainable ? parameter.size : 0),
      0,
    );
  }

  /** Frees all parameters, and the other tensors that the modules below hold. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
    for (const [, module] of this.namedModules()) module.disposeBuffers();
  }

  /** Frees tensors that are no parameters: constants and caches. */
  protected disposeBuffers(): void {
    // A module without such tensors has nothing to do.
  }

  *#parts(prefix = ""): Generator<[string, Parameter | Module]> {
    for (const [name, part] of partsIn(Object.entries(this), prefix)) {
      yield [name, part];
      if (part instanceof Module) yield* part.#parts(`${name}.`);
    }
  }
}

function* partsIn(entries: [string, unknown][], prefix: string): Generator<[string, Parameter | Module]> {
  for (const [key, value] of entries) {
    const name = prefix + key;
    if (value instanceof Parameter || value instanceof Module) yield [name, value];
    else if (Array.isArray(value)) yield* partsIn(Object.entries(value), `${name}.`);
  }
}
