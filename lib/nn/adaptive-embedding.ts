import { add } from "../ops/elementwise.js";
import { linear } from "../ops/gemm.js";
import type { FloatTensor, IndexTensor } from "../tensor.js";
import { tablesOf, type VocabularyOptions } from "./clusters.js";
import { Embedding } from "./embedding.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";

export interface AdaptiveEmbeddingOptions extends VocabularyOptions {
  dModel: number;
  /** Standard deviation of initial projections. Default 0.01. */
  projectionStd?: number;
}

/**
 * Token embeddings that get narrower for rarer tokens (Baevski and Auli 2019):
 *
 *     y = √dModel · projection[c] · table[c][id - firstId(c)],   c the cluster of id
 *
 * With `divVal` 1 all clusters share one table, and there is a projection only where dEmbed differs from dModel.
 */
export class AdaptiveEmbedding extends Module {
  /** One per cluster, or one. */
  readonly tables: readonly Embedding[];
  /** `[dModel, width]` per table; none when tables are dModel wide. */
  readonly projections: readonly Parameter[];

  constructor(options: AdaptiveEmbeddingOptions, init = new Initializer()) {
    super();
    const { vocabSize, dModel, dEmbed, divVal = 1, projectionStd = 0.01 } = options;
    const tables = tablesOf(options);
    const scale = Math.sqrt(dModel);
    this.tables = tables.map((table) => new Embedding({ ...table, vocabSize, scale }, init));
    this.projections =
      divVal === 1 && dEmbed === dModel
        ? []
        : tables.map(({ width }) => init.normal([dModel, width], { std: projectionStd }));
  }

  /** @param ids Any shape, i32. @returns `[...ids.shape, dModel]`. */
  forward(ids: IndexTensor): FloatTensor {
    return this.tables
      .map((table, i) => {
        const projection = this.projections[i];
        const rows = table.forward(ids);
        return projection ? linear(rows, projection.value) : rows;
      })
      .reduce((sum, part) => add(sum, part));
  }
}
