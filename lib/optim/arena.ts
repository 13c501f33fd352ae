import { ConfigError, ValueError } from "../errors.js";
import { fill } from "../ops/elementwise.js";
import type { Parameter } from "../nn/parameter.js";
import { empty, type FloatTensor } from "../tensor.js";

/** A contiguous range of an arena, in elements. */
export interface Range {
  begin: number;
  end: number;
}

/** Parameters start at multiples of this many elements: one cache line of float32. */
const alignment = 16;

/** The arena each parameter moved into last. */
const owners = new WeakMap<Parameter, Arena>();

/**
 * Flat memory for parameters and their gradients: an optimiser update, a gradient norm and a checkpoint are each
 * one pass over it. Values and gradients of the parameters become views of the two buffers; the gaps between
 * aligned parameters stay zero.
 */
export class Arena {
  readonly values: FloatTensor<[number]>;
  readonly gradients: FloatTensor<[number]>;
  readonly #places = new Map<Parameter, Range>();

  /** Moves the parameters in, in order. @throws {ConfigError} when there are none, or one is given twice. */
  constructor(readonly parameters: readonly Parameter[]) {
    const [first] = parameters;
    if (!first || new Set(parameters).size !== parameters.length) {
      throw new ConfigError(
        "parameters",
        parameters.length,
        first ? "a parameter is listed twice" : "there are no parameters to train",
        first
          ? "list each parameter in one group"
          : "pass model.parameters() with at least one trainable parameter",
      );
    }
    let size = 0;
    for (const parameter of parameters) {
      owners.set(parameter, this);
      this.#places.set(parameter, { begin: size, end: size + parameter.size });
      size += Math.ceil(parameter.size / alignment) * alignment;
    }
    const { device } = first.value;
    this.values = empty(device.float, [size] as [number], device).keep();
    this.gradients = empty(device.float, [size] as [number], device).keep();
    fill(this.values, 0);
    fill(this.gradients, 0);
    for (const [parameter, { begin }] of this.#places) {
      parameter.moveTo(this.values.view(parameter.shape, begin), this.gradients.view(parameter.shape, begin));
    }
  }

  /** A zero-filled buffer beside the parameters, for optimiser state. */
  zeros(): FloatTensor<[number]> {
    const buffer = empty(this.values.dtype, this.values.shape, this.values.device).keep();
    fill(buffer, 0);
    return buffer;
  }

  has(parameter: Parameter): boolean {
    return this.#places.has(parameter);
  }

  place(parameter: Parameter): Range {
    const place = this.#places.get(parameter);
    if (!place) throw new ValueError("Arena.place", "parameter", "the parameter is not in this arena");
    return place;
  }

  /** The fewest ranges that cover the trainable ones of `parameters` and no frozen one. */
  trainableRanges(parameters: readonly Parameter[]): Range[] {
    const ranges: Range[] = [];
    let open: Range | undefined;
    for (const parameter of parameters) {
      const { begin, end } = this.place(parameter);
      if (!parameter.trainable) {
        open = undefined;
      } else if (open && begin - open.end < alignment) {
        open.end = end;
      } else {
        open = { begin, end };
        ranges.push(open);
      }
    }
    return ranges;
  }

  zeroGradients(): void {
    fill(this.gradients, 0);
  }

  /** @throws {ConfigError} when an optimiser made later has taken a parameter over. */
  checkOwnership(): void {
    if (this.parameters.every((parameter) => owners.get(parameter) === this)) return;
    throw new ConfigError(
      "parameters",
      this.parameters.length,
      "another optimiser has taken over parameters of this one",
      "use the optimiser that was made last, or give each its own parameters",
    );
  }

  /** Frees the buffers; the parameters keep the memory they use. */
  dispose(): void {
    this.values.dispose();
    this.gradients.dispose();
  }
}
