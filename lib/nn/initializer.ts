import { type Device, openDevice } from "../device.js";
import { randomNormal } from "../ops/random.js";
import { RandomStream } from "../random.js";
import { type Shape, zeros } from "../tensor.js";
import { Parameter } from "./parameter.js";

export interface InitializerOptions {
  /** Where parameters live. Default: `openDevice()`. */
  device?: Device;
  /** Non-negative integer below 2^53. Default 0. */
  seed?: number;
  /** Standard deviation of weights, unless a module says otherwise. Default 0.02. */
  std?: number;
}

/**
 * Makes the parameters of a model. Each purpose draws from a random stream of its own, so that a model with another
 * hypernetwork, say, starts from the same other weights.
 */
export class Initializer {
  readonly device: Device;
  readonly seed: number;
  readonly std: number;
  readonly #streams = new Map<string, RandomStream>();
  /** The streams asked for so far, by purpose. */
  readonly streams: ReadonlyMap<string, RandomStream> = this.#streams;

  constructor({ device = openDevice(), seed = 0, std = 0.02 }: InitializerOptions = {}) {
    this.device = device;
    this.seed = seed;
    this.std = std;
  }

  /** The stream of a purpose: `weights`, `hypernetwork`, `router-embedding`, `dropout`. */
  stream(purpose: string): RandomStream {
    let stream = this.#streams.get(purpose);
    if (!stream) this.#streams.set(purpose, (stream = new RandomStream(this.seed, purpose)));
    return stream;
  }

  normal(shape: Shape, options: { mean?: number; std?: number; purpose?: string } = {}): Parameter {
    const { mean = 0, std = this.std, purpose = "weights" } = options;
    return new Parameter(randomNormal(shape, mean, std, this.stream(purpose).next(), this.device));
  }

  zeros(shape: Shape): Parameter {
    return new Parameter(zeros(shape, this.device));
  }
}
