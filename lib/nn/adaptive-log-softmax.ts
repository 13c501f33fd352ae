import { add, sub } from "../ops/elementwise.js";
import { linear, matmul } from "../ops/gemm.js";
import { crossEntropy, tailCrossEntropy } from "../ops/loss.js";
import { at, concatRows, flattenRows, reshape, rows } from "../ops/view.js";
import { type FloatTensor, indices, type IndexTensor } from "../tensor.js";
import type { AdaptiveEmbedding } from "./adaptive-embedding.js";
import { type Cluster, clustersOf, tablesOf, type VocabularyOptions } from "./clusters.js";
import { Initializer } from "./initializer.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";

export interface AdaptiveLogSoftmaxOptions extends VocabularyOptions {
  dModel: number;
  /** Share the tables of this embedding, made with the same vocabulary options. Default: own weights. */
  embedding?: AdaptiveEmbedding | null;
  /** Per cluster, whether it shares the embedding's projection too. Default: none does. */
  tieProjections?: readonly boolean[];
  /** Standard deviation of initial projections. Default 0.01. */
  projectionStd?: number;
}

/**
 * Log-probabilities of tokens, with rare tokens in clusters that are scored only where needed (Grave et al. 2017):
 *
 *     -log p(t) = -log p_head(t)                         t in the head cluster
 *     -log p(t) = -log p_head(cluster) - log p_i(t)      t in tail i
 *
 * Without cutoffs it is an ordinary softmax over the vocabulary.
 */
export class AdaptiveLogSoftmax extends Module {
  /** `[size, width]` per table; the embedding's when tied. */
  readonly weights: readonly Parameter[];
  /** `[size]` per table. */
  readonly biases: readonly Parameter[];
  /** `[numTails, dEmbed]`; row i scores tail numTails - i. */
  readonly clusterWeight: Parameter | null;
  /** `[numTails]` */
  readonly clusterBias: Parameter | null;
  /** `[dModel, width]` per cluster; none when weights are dModel wide. */
  readonly projections: readonly Parameter[];
  readonly #clusters: readonly Cluster[];
  readonly #cutoffs: IndexTensor | null;

  constructor(options: AdaptiveLogSoftmaxOptions, init = new Initializer()) {
    super();
    const { vocabSize, dModel, dEmbed, cutoffs = [], divVal = 1 } = options;
    const { embedding = null, tieProjections = [], projectionStd = 0.01 } = options;
    const tables = tablesOf(options);
    const clusters = clustersOf(options);
    const projected = divVal > 1 || dEmbed !== dModel;
    const numTails = cutoffs.length;
    this.weights =
      embedding?.tables.map((table) => table.weight) ??
      tables.map(({ size, width }) => init.normal([size, width]));
    this.biases = tables.map(({ size }) => init.zeros([size]));
    this.clusterWeight = numTails > 0 ? init.normal([numTails, dEmbed]) : null;
    this.clusterBias = numTails > 0 ? init.zeros([numTails]) : null;
    this.projections = (projected ? clusters : []).map(({ width }, i) => {
      const shared = tieProjections[i] === true ? embedding?.projections[divVal === 1 ? 0 : i] : undefined;
      return shared ?? init.normal([dModel, width], { std: projectionStd });
    });
    this.#clusters = clusters;
    this.#cutoffs =
      numTails > 0 ? indices([...cutoffs, vocabSize], [numTails + 1], init.device).keep() : null;
  }

  /**
   * @param hidden `[..., dModel]`.
   * @param targets One id per position, i32.
   * @returns `-log p(target)` in nats, `[positions]`, in the order of the targets.
   */
  forward(hidden: FloatTensor, targets: IndexTensor): FloatTensor<[number]> {
    const flat = flattenRows(hidden);
    let nll = crossEntropy(this.#headLogits(flat), targets, {
      cutoffs: this.#cutoffs,
      overwriteLogits: true,
    });
    for (const [i, { firstId }] of this.#clusters.entries()) {
      if (i === 0) continue;
      const { weight, bias } = this.#layerOf(i);
      nll = tailCrossEntropy(this.#project(flat, i), weight, bias, targets, nll, firstId);
    }
    return nll;
  }

  /**
   * Scores of the whole vocabulary, for sampling: softmax over a row gives the probabilities.
   *
   * @param hidden `[positions, dModel]`; with cutoffs, a few positions at a time.
   * @returns `[positions, vocabSize]`.
   */
  logits(hidden: FloatTensor): FloatTensor {
    const head = this.#headLogits(hidden);
    const numTails = this.#clusters.length - 1;
    if (numTails === 0) return head;
    const [positions = 0, columns = 0] = head.shape;
    const tails = this.#clusters.slice(1).map((_, i) => this.#tailLogits(hidden, i + 1));
    const first = indices([0], [1], head.device);
    const scores = Array.from({ length: positions }, (_, position) => {
      const headRow = at(head, position);
      const tailScores = tails.map((tail, i) => {
        const row = at(tail, position);
        // log p = cluster + z - lse(z), and crossEntropy of the first id is lse(z) - z[0].
        const lse = add(crossEntropy(row, first), rows(row, 0, 1));
        return add(row, sub(rows(headRow, columns - 1 - i, columns - i), lse));
      });
      return concatRows([rows(headRow, 0, columns - numTails), ...tailScores]);
    });
    return reshape(concatRows(scores), [positions, scores[0]?.size ?? 0]);
  }

  protected override disposeBuffers(): void {
    this.#cutoffs?.dispose();
  }

  #headLogits(flat: FloatTensor): FloatTensor {
    const { weight, bias } = this.#layerOf(0);
    const hidden = this.#project(flat, 0);
    if (!this.clusterWeight || !this.clusterBias) return linear(hidden, weight, bias);
    return linear(
      hidden,
      concatRows([weight, this.clusterWeight.value]),
      concatRows([bias, this.clusterBias.value]),
    );
  }

  #tailLogits(flat: FloatTensor, i: number): FloatTensor {
    const { weight, bias } = this.#layerOf(i);
    return linear(this.#project(flat, i), weight, bias);
  }

  /** The output layer of a cluster: a table of its own, or rows of the one table. */
  #layerOf(i: number): { weight: FloatTensor; bias: FloatTensor } {
    const shared = this.weights.length < this.#clusters.length;
    const weight = this.weights[shared ? 0 : i]!.value;
    const bias = this.biases[shared ? 0 : i]!.value;
    if (!shared) return { weight, bias };
    const { firstId, size } = this.#clusters[i]!;
    return { weight: rows(weight, firstId, firstId + size), bias: rows(bias, firstId, firstId + size) };
  }

  #project(flat: FloatTensor, i: number): FloatTensor {
    const projection = this.projections[i];
    return projection ? matmul(flat, projection.value) : flat;
  }
}
