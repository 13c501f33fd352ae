import { ConfigError } from "../errors.js";
import { checkInteger } from "../options.js";

/** How a vocabulary is split by frequency, for adaptive input and output layers. */
export interface VocabularyOptions {
  /** Number of token ids. */
  vocabSize: number;
  /** Width of the embeddings of the most frequent cluster. */
  dEmbed: number;
  /** First ids of the second, third, ... cluster, ascending. Default: one cluster. */
  cutoffs?: readonly number[];
  /** Each further cluster's embeddings are narrower by this factor. Default 1. */
  divVal?: number;
}

/** Token ids `firstId .. firstId + size - 1`. */
export interface Cluster {
  firstId: number;
  size: number;
  /** Width of its embeddings. */
  width: number;
}

/** @throws {ConfigError} for cutoffs that are not ascending inside the vocabulary, or clusters of width 0. */
export function clustersOf({ vocabSize, dEmbed, cutoffs = [], divVal = 1 }: VocabularyOptions): Cluster[] {
  for (const [key, value] of Object.entries({ vocabSize, dEmbed, divVal })) checkInteger(key, value, 1);
  const ends = [...cutoffs, vocabSize];
  return ends.map((end, i) => {
    const firstId = ends[i - 1] ?? 0;
    if (!Number.isInteger(end) || end <= firstId) {
      throw new ConfigError(
        "cutoffs",
        cutoffs,
        `cutoffs [${cutoffs.join(", ")}] do not split a vocabulary of ${String(vocabSize)}`,
        "pass ascending integers between 1 and vocabSize - 1",
      );
    }
    const width = Math.floor(dEmbed / divVal ** i);
    if (width < 1) {
      throw new ConfigError(
        "divVal",
        divVal,
        `cluster ${String(i)} would have embeddings of width ${String(dEmbed)} / ${String(divVal)}^${String(i)} < 1`,
        "use a smaller divVal, fewer cutoffs or a larger dEmbed",
      );
    }
    return { firstId, size: end - firstId, width };
  });
}

/** The tables that hold the clusters: one for all when they have the same width. */
export function tablesOf(options: VocabularyOptions): Cluster[] {
  const clusters = clustersOf(options);
  const { vocabSize, dEmbed, divVal = 1 } = options;
  return divVal === 1 ? [{ firstId: 0, size: vocabSize, width: dEmbed }] : clusters;
}
