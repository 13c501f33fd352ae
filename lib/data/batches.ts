/**
 * Ordered language-model batches, as in Transformer-XL: each of `batchSize` columns is one long stretch of the
 * text, and consecutive batches continue every column, so that memories carry over.
 *
 * With n = ⌊tokens / batchSize⌋, column b holds the tokens [b n, (b + 1) n); the remainder is dropped.
 */

import { ConfigError } from "../errors.js";
import { checkInteger } from "../options.js";
import { normal, seededRandom } from "./random.js";
import type { TokenSource } from "./token-source.js";

/** Where a batch starts: the pass over the source, and the row of the columns it predicts from. Plain JSON. */
export interface BatchCursor {
  readonly epoch: number;
  readonly position: number;
}

export interface LmBatch {
  /** Tokens `[inputLength, batchSize]`, row-major: the last `length` rows, after up to `extLen` rows of context. */
  readonly inputs: Int32Array;
  /** The token after each of the last `length` rows of inputs: `[length, batchSize]`, row-major. */
  readonly targets: Int32Array;
  /** Predicted positions per column; the last batch of a pass may be short. */
  readonly length: number;
  /** `length` plus the rows of context. */
  readonly inputLength: number;
  readonly batchSize: number;
  /** Where this batch starts; at position 0 a new pass begins and memories should be cleared. */
  readonly cursor: BatchCursor;
  /** Where the next batch starts: save it, and the run resumes after this batch. */
  readonly next: BatchCursor;
}

export interface LmBatchOptions {
  /** Columns. */
  readonly batchSize: number;
  /** Predicted positions per column and batch. */
  readonly seqLen: number;
  /** Earlier tokens repeated in front of the inputs; default 0. */
  readonly extLen?: number;
  /**
   * Draw the length of each batch: int(N(base, 5)) within [5, seqLen + 15], where base is seqLen with
   * probability 0.95 and half of it otherwise. A length depends on the seed and the cursor only.
   */
  readonly variableLength?: { readonly seed: number };
}

const START: BatchCursor = { epoch: 0, position: 0 };

/**
 * Batches of a token source. The next batch is read while the current one is in use.
 *
 * @example
 * const batches = new LmBatches(tokens, { batchSize: 16, seqLen: 128 });
 * for await (const batch of batches.endless(savedCursor)) { … }
 */
export class LmBatches {
  /** Tokens per column, n. */
  readonly columnLength: number;

  /** @throws {ConfigError} if an option is no positive integer or the source has fewer than 2 tokens per column. */
  constructor(
    private readonly source: TokenSource,
    readonly options: LmBatchOptions,
  ) {
    const { batchSize, seqLen, extLen = 0 } = options;
    checkInteger("batchSize", batchSize, 1);
    checkInteger("seqLen", seqLen, 1);
    checkInteger("extLen", extLen, 0);
    this.columnLength = Math.floor(source.length / batchSize);
    if (this.columnLength < 2) {
      const reason = `${source.length} tokens are too few for ${batchSize} columns of 2 or more`;
      throw new ConfigError("batchSize", batchSize, reason, "use a smaller batchSize or more text");
    }
  }

  /** The rest of one pass over the source, from its start by default. */
  epoch(from: BatchCursor = START): AsyncGenerator<LmBatch, void, undefined> {
    return this.stream(from, false);
  }

  /** Pass after pass, without end. */
  endless(from: BatchCursor = START): AsyncGenerator<LmBatch, void, undefined> {
    return this.stream(from, true);
  }

  private async *stream(from: BatchCursor, endless: boolean): AsyncGenerator<LmBatch, void, undefined> {
    checkInteger("cursor.epoch", from.epoch, 0);
    checkInteger("cursor.position", from.position, 0, this.columnLength - 2);
    const load = (cursor: BatchCursor): Promise<LmBatch> => {
      const batch = this.load(cursor);
      batch.catch(() => undefined); // a failure is reported when the batch is asked for
      return batch;
    };
    let ahead: Promise<LmBatch> | undefined = load(from);
    try {
      while (ahead !== undefined) {
        const batch: LmBatch = await ahead;
        ahead = endless || batch.next.epoch === from.epoch ? load(batch.next) : undefined;
        yield batch;
      }
    } finally {
      await ahead?.catch(() => undefined); // nothing reads the source after the loop has ended
    }
  }

  private async load(cursor: BatchCursor): Promise<LmBatch> {
    const { batchSize, extLen = 0 } = this.options;
    const { position, epoch } = cursor;
    const length = this.lengthAt(cursor);
    const first = Math.max(0, position - extLen);
    const inputLength = position + length - first;
    const columns = await Promise.all(
      Array.from({ length: batchSize }, (_, b) =>
        this.source.read(b * this.columnLength + first, inputLength + 1),
      ),
    );
    const inputs = new Int32Array(inputLength * batchSize);
    const targets = new Int32Array(length * batchSize);
    columns.forEach((column, b) => {
      for (let row = 0; row < inputLength; row++) inputs[row * batchSize + b] = column[row]!;
      const firstTarget = inputLength - length + 1;
      for (let row = 0; row < length; row++) targets[row * batchSize + b] = column[firstTarget + row]!;
    });
    const end = position + length;
    const next = end > this.lastStart ? { epoch: epoch + 1, position: 0 } : { epoch, position: end };
    return { inputs, targets, length, inputLength, batchSize, cursor, next };
  }

  /** Last row at which a batch may start. With variable lengths the reference leaves the last target out. */
  private get lastStart(): number {
    return this.columnLength - (this.options.variableLength ? 3 : 2);
  }

  private lengthAt({ epoch, position }: BatchCursor): number {
    const { seqLen, variableLength } = this.options;
    const left = this.columnLength - 1 - position;
    if (!variableLength) return Math.min(seqLen, left);
    const random = seededRandom(variableLength.seed, epoch, position);
    const base = random() < 0.95 ? seqLen : seqLen / 2;
    const drawn = Math.trunc(normal(random, base, 5));
    return Math.min(Math.max(5, Math.min(drawn, seqLen + 15)), left);
  }
}
