import type { Device } from "../device.js";
import { type FloatTensor, tensor } from "../tensor.js";
import { Module } from "./module.js";

export interface PositionsOptions {
  dModel: number;
  /** Distances beyond this count as this. Default: no clamp. */
  clampLen?: number;
}

/**
 * Sinusoids of relative distances (Vaswani et al. 2017; Dai et al. 2019): the row of distance p is
 * `[sin(p ω_0) .. sin(p ω_last), cos(p ω_0) .. cos(p ω_last)]`, with `ω_j = 10000^(-2j / dModel)`.
 */
export class Positions extends Module {
  readonly #dModel: number;
  readonly #clampLen: number;
  /** Farthest distance first, so the last rows serve shorter contexts. */
  #table: FloatTensor | undefined;

  constructor(
    { dModel, clampLen = Infinity }: PositionsOptions,
    private readonly device: Device,
  ) {
    super();
    this.#dModel = dModel;
    this.#clampLen = clampLen > 0 ? clampLen : Infinity;
  }

  /** @returns `[kLen, dModel]`: the sinusoids of distances `kLen - 1 .. 0`. A view of a cached table. */
  forward(kLen: number): FloatTensor {
    const have = this.#table?.shape[0] ?? 0;
    if (!this.#table || have < kLen) {
      this.#table?.dispose();
      // Generation asks for one row more each time.
      const rows = Math.max(kLen, 2 * have);
      this.#table = tensor(this.#sinusoids(rows), [rows, this.#dModel], this.device).keep();
    }
    const [rows = 0] = this.#table.shape;
    return this.#table.view([kLen, this.#dModel], (rows - kLen) * this.#dModel);
  }

  protected override disposeBuffers(): void {
    this.#table?.dispose();
    this.#table = undefined;
  }

  #sinusoids(rows: number): Float64Array {
    const half = this.#dModel / 2;
    const values = new Float64Array(rows * this.#dModel);
    for (let row = 0; row < rows; row += 1) {
      const distance = Math.min(rows - 1 - row, this.#clampLen);
      for (let j = 0; j < half; j += 1) {
        const angle = distance * 10000 ** ((-2 * j) / this.#dModel);
        values[row * this.#dModel + j] = Math.sin(angle);
        values[row * this.#dModel + half + j] = Math.cos(angle);
      }
    }
    return values;
  }
}
