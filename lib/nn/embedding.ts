import { embed } from "../ops/embed.js";
import type { FloatTensor, IndexTensor } from "../tensor.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";

export interface EmbeddingOptions {
  /** Rows of the table. */
  size: number;
  /** Columns of the table. */
  width: number;
  /** Id of the first row. Default 0. */
  firstId?: number;
  /** Ids from here on are errors; valid ids without a row give zeros. Default: `firstId + size`. */
  vocabSize?: number;
  /** Factor on the rows. Default 1. */
  scale?: number;
}

/** A table of vectors, one per token id. Starts as N(0, std²). */
export class Embedding extends Module {
  /** `[size, width]` */
  readonly weight: Parameter;
  readonly #lookup: { firstId: number; vocabSize: number; scale: number };

  constructor(options: EmbeddingOptions, init = new Initializer()) {
    super();
    const { size, width, firstId = 0, vocabSize = firstId + size, scale = 1 } = options;
    this.weight = init.normal([size, width]);
    this.#lookup = { firstId, vocabSize, scale };
  }

  /** @param ids Any shape, i32. @returns `[...ids.shape, width]`. */
  forward(ids: IndexTensor): FloatTensor {
    return embed(ids, this.weight.value, this.#lookup);
  }
}
