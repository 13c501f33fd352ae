import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { ConfigError } from "../../lib/errors.js";
import { LmBatches, type BatchCursor, type LmBatch, type LmBatchOptions } from "../../lib/data/batches.js";
import { TokenFile, writeTokenFile } from "../../lib/data/token-file.js";
import { MemoryTokens, type TokenSource } from "../../lib/data/token-source.js";
import { ByteTokenizer } from "../../lib/data/tokenizer.js";

interface GoldenEntry {
  n_tokens: number;
  first_token: number;
  batch_size: number;
  bptt: number;
  ext_len: number;
  n_step: number;
  batches: { data: number[][]; target: number[][]; seq_len: number }[];
}

const golden = JSON.parse(readFileSync(new URL("../golden/h_iterators.json", import.meta.url), "utf8")) as {
  ordered: GoldenEntry[];
};

function consecutive(count: number, first = 0): MemoryTokens {
  return new MemoryTokens(
    Int32Array.from({ length: count }, (_, i) => first + i),
    first + count,
  );
}

async function collect<T>(items: AsyncIterable<T>, most = Infinity): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) {
    collected.push(item);
    if (collected.length === most) break;
  }
  return collected;
}

describe("recorded ordered batches", () => {
  test.each(golden.ordered)(
    "$n_tokens tokens in $batch_size columns, $bptt at a time, context $ext_len",
    async (entry) => {
      const options = { batchSize: entry.batch_size, seqLen: entry.bptt, extLen: entry.ext_len };
      const batches = new LmBatches(consecutive(entry.n_tokens, entry.first_token), options);
      expect(batches.columnLength).toBe(entry.n_step);
      const actual = await collect(batches.epoch());
      expect(actual.map(({ inputs }) => [...inputs])).toEqual(entry.batches.map(({ data }) => data.flat()));
      expect(actual.map(({ targets }) => [...targets])).toEqual(
        entry.batches.map(({ target }) => target.flat()),
      );
      expect(actual.map(({ length }) => length)).toEqual(entry.batches.map(({ seq_len }) => seq_len));
      expect(actual.map(({ inputLength }) => inputLength)).toEqual(
        entry.batches.map(({ data }) => data.length),
      );
    },
  );
});

/** Checks one pass over consecutive integers from 0: order, targets, and that columns are continued. */
function expectOrdered(pass: LmBatch[], columnLength: number, options: LmBatchOptions): void {
  const { batchSize, extLen = 0 } = options;
  let position = 0;
  for (const { inputs, targets, length, inputLength, cursor, ...batch } of pass) {
    expect(cursor.position).toBe(position);
    expect(batch.batchSize).toBe(batchSize);
    expect(inputLength).toBe(length + Math.min(extLen, position));
    expect([inputs.length, targets.length]).toEqual([inputLength * batchSize, length * batchSize]);
    inputs.forEach((token, i) => {
      const [row, column] = [Math.floor(i / batchSize), i % batchSize];
      expect(token).toBe(column * columnLength + position - (inputLength - length) + row);
    });
    targets.forEach((token, i) => {
      expect(token).toBe((i % batchSize) * columnLength + position + Math.floor(i / batchSize) + 1);
    });
    position += length;
  }
}

const shapes: LmBatchOptions[] = [
  { batchSize: 1, seqLen: 1 },
  { batchSize: 3, seqLen: 7 },
  { batchSize: 4, seqLen: 100, extLen: 5 },
  { batchSize: 2, seqLen: 30, variableLength: { seed: 1 } },
  { batchSize: 5, seqLen: 8, extLen: 3, variableLength: { seed: 2 } },
];

describe.each(shapes)("%j", (options) => {
  test.each([20, 59, 201, 1000])("passes over %i tokens are ordered and repeat", async (count) => {
    const batches = new LmBatches(consecutive(count), options);
    const n = batches.columnLength;
    const pass = await collect(batches.epoch());
    expectOrdered(pass, n, options);
    const predicted = pass.reduce((sum, { length }) => sum + length, 0);
    expect(predicted).toBeGreaterThanOrEqual(options.variableLength ? n - 2 : n - 1);
    expect(pass.at(-1)?.next).toEqual({ epoch: 1, position: 0 });
    const two = await collect(batches.endless(), pass.length + 1);
    expect(two.slice(0, -1)).toEqual(pass);
    expect(two.at(-1)?.cursor).toEqual({ epoch: 1, position: 0 });
  });

  test("a run resumed at any saved cursor continues with the same batches", async () => {
    const source = consecutive(700);
    const whole = await collect(new LmBatches(source, options).endless(), 40);
    for (const [i, { next }] of whole.slice(0, -5).entries()) {
      const saved = JSON.parse(JSON.stringify(next)) as BatchCursor;
      const resumed = await collect(new LmBatches(source, options).endless(saved), 5);
      expect(resumed).toEqual(whole.slice(i + 1, i + 6));
    }
  });
});

describe("variable lengths", () => {
  test("follow the distribution and depend on the seed", async () => {
    const lengthsOf = async (seed: number): Promise<number[]> => {
      const batches = new LmBatches(consecutive(200_000), {
        batchSize: 1,
        seqLen: 40,
        variableLength: { seed },
      });
      return (await collect(batches.epoch())).slice(0, -1).map(({ length }) => length);
    };
    const lengths = await lengthsOf(1);
    expect(lengths.every((length) => Number.isInteger(length) && length >= 5 && length <= 55)).toBe(true);
    const short = lengths.filter((length) => length < 25).length / lengths.length;
    expect(short).toBeGreaterThan(0.03);
    expect(short).toBeLessThan(0.06); // 5 % around 20, most of them below 25
    const mean = lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
    expect(Math.abs(mean - (0.95 * 39.5 + 0.05 * 19.5))).toBeLessThan(0.5);
    expect(await lengthsOf(1)).toEqual(lengths);
    expect(await lengthsOf(2)).not.toEqual(lengths);
  });

  test("differ from pass to pass", async () => {
    const batches = new LmBatches(consecutive(2000), {
      batchSize: 1,
      seqLen: 40,
      variableLength: { seed: 1 },
    });
    const first = await collect(batches.epoch());
    const second = await collect(batches.epoch({ epoch: 1, position: 0 }));
    expect(second.map(({ length }) => length)).not.toEqual(first.map(({ length }) => length));
  });
});

describe("reading", () => {
  test("a token file gives the same batches as memory", async () => {
    const folder = await mkdtemp(join(tmpdir(), "batches-"));
    const ids = Int32Array.from({ length: 997 }, (_, i) => (i * 31) % 256);
    const path = join(folder, "a.tokens");
    await writeTokenFile(
      path,
      new ByteTokenizer(),
      (async function* () {
        yield ids;
      })(),
    );
    const file = await TokenFile.open(path);
    for (const options of shapes) {
      const expected = await collect(new LmBatches(new MemoryTokens(ids, 256), options).epoch());
      expect(await collect(new LmBatches(file, options).epoch())).toEqual(expected);
    }
    await file.close();
    await rm(folder, { recursive: true });
  });

  /** Counts reads, and fails from the given token on. */
  function watched(length: number, failFrom = Infinity): TokenSource & { started: number; finished: number } {
    const inner = consecutive(length);
    return {
      length,
      vocabSize: length,
      started: 0,
      finished: 0,
      async read(offset, count) {
        this.started++;
        await new Promise((resolve) => setTimeout(resolve, 1));
        this.finished++;
        if (offset + count > failFrom) throw new Error("disk failed");
        return inner.read(offset, count);
      },
    };
  }

  test("one batch is read ahead, and nothing after the loop has ended", async () => {
    const source = watched(100);
    for await (const { cursor } of new LmBatches(source, { batchSize: 2, seqLen: 5 }).epoch()) {
      expect(source.started).toBe(cursor.position === 45 ? 20 : 2 * (cursor.position / 5 + 2));
      if (cursor.position === 20) break;
    }
    expect(source.finished).toBe(source.started);
  });

  test("a failed read reaches the loop when its batch is due", async () => {
    const seen: number[] = [];
    const loop = async (): Promise<void> => {
      const batches = new LmBatches(watched(100, 30), { batchSize: 1, seqLen: 10 });
      for await (const { cursor } of batches.epoch()) {
        seen.push(cursor.position);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await expect(loop()).rejects.toThrow("disk failed");
    expect(seen).toEqual([0, 10]);
  });

  test("a loop that leaves before a failed read ends quietly", async () => {
    for await (const batch of new LmBatches(watched(100, 15), { batchSize: 1, seqLen: 10 }).epoch()) {
      expect(batch.length).toBe(10);
      break;
    }
  });
});

test("options and cursors out of range are refused", async () => {
  const source = consecutive(10);
  for (const options of [
    { batchSize: 0, seqLen: 1 },
    { batchSize: 1.5, seqLen: 1 },
    { batchSize: 1, seqLen: 0 },
    { batchSize: 1, seqLen: 1, extLen: -1 },
    { batchSize: 6, seqLen: 1 },
  ]) {
    expect(() => new LmBatches(source, options)).toThrow(ConfigError);
  }
  const batches = new LmBatches(source, { batchSize: 2, seqLen: 2 });
  for (const cursor of [
    { epoch: -1, position: 0 },
    { epoch: 0, position: 4 },
    { epoch: 0, position: NaN },
  ]) {
    await expect(batches.epoch(cursor).next()).rejects.toThrow(ConfigError);
  }
});
