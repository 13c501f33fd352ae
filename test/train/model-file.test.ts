import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";

import { describe, expect, test } from "@jest/globals";

import { SafetensorsFile } from "../../lib/checkpoint/safetensors.js";
import { findChecksum } from "../../lib/checkpoint/safetensors-header.js";
import { loadWeights } from "../../lib/checkpoint/weights.js";
import { CheckpointError, HyperRouterError } from "../../lib/errors.js";
import type { TransformerXL } from "../../lib/nn/transformer-xl.js";
import { scope } from "../../lib/scope.js";
import { indices } from "../../lib/tensor.js";
import { CheckpointFolder } from "../../lib/train/checkpoint-folder.js";
import { loadModel, type SavedModel, saveModel } from "../../lib/train/model-file.js";
import { openRun } from "../../lib/train/run.js";
import { testRandom } from "../data/test-random.js";
import { mutate } from "../support/mutate.js";
import { modelDigest, newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile();
const folder = await newFolder();
const run = await openRun(tinyConfig(text, { train: { steps: 4 } }), { checkpoints: folder });
await run.trainer.train({ steps: 4 });
const saved: SavedModel = { model: run.model, config: run.config, tokenizer: run.corpus.tokenizer };
const path = join(folder, "model.safetensors");
await saveModel(path, saved);

/** Logits after a short text. */
async function logitsOf(model: TransformerXL): Promise<number[]> {
  model.eval();
  const ids = run.corpus.tokenizer.encode("the jury said");
  return scope(async () => {
    const { logits } = model.predict(indices(ids, [ids.length, 1], model.device));
    return [...(await logits.data())];
  });
}

async function namesIn(file: string): Promise<Map<string, string>> {
  const opened = await SafetensorsFile.open(file);
  await opened.close();
  return new Map([...opened.tensors].map(([name, { dtype }]) => [name, dtype]));
}

describe("a saved model", () => {
  test("is the same model when it is loaded", async () => {
    const loaded = await loadModel(path);
    expect(loaded.config).toEqual(run.config);
    expect(await modelDigest(loaded.model)).toBe(await modelDigest(run.model));
    expect(await logitsOf(loaded.model)).toEqual(await logitsOf(run.model));
    expect(loaded.tokenizer.decode(loaded.tokenizer.encode("the jury"))).toBe("the jury");
    expect(loaded.model.tokenizer).toBe(loaded.tokenizer);
    loaded.model.dispose();
  });

  test("can be loaded from a checkpoint", async () => {
    const checkpoint = (await new CheckpointFolder(folder).latest()) ?? "";
    const loaded = await loadModel(checkpoint);
    expect(await modelDigest(loaded.model)).toBe(await modelDigest(run.model));
    const { loaded: names, missing } = await loadWeights(loaded.model, checkpoint);
    expect(names).toEqual([...run.model.namedParameters()].map(([name]) => name));
    expect(missing).toEqual([]);
    loaded.model.dispose();
  });

  test("is read by a parser written from the format's definition alone", async () => {
    for (const file of [path, (await new CheckpointFolder(folder).latest()) ?? ""]) {
      const bytes = await readFile(file);
      const length = Number(bytes.readBigUInt64LE(0));
      expect(length % 8).toBe(0);
      const { __metadata__: metadata, ...entries } = JSON.parse(
        bytes.subarray(8, 8 + length).toString(),
      ) as Record<string, Record<string, unknown>>;
      for (const value of Object.values(metadata ?? {})) expect(typeof value).toBe("string");
      let covered = 0;
      for (const { data_offsets: offsets } of Object.values(entries)) {
        const [begin = 0, end = 0] = offsets as number[];
        covered += end - begin;
      }
      expect(covered).toBe(bytes.length - 8 - length);
      for (const [name, { value }] of run.model.namedParameters()) {
        const { dtype, shape, data_offsets: offsets } = entries[name] ?? {};
        expect([dtype, shape]).toEqual(["F32", value.shape]);
        const values = await value.data();
        const begin = 8 + length + ((offsets as number[])[0] ?? NaN);
        values.forEach((expected, i) => {
          if (bytes.readFloatLE(begin + 4 * i) !== expected) throw new Error(`${name}[${String(i)}] differs`);
        });
      }
    }
  });

  test("can be loaded onto another device", async () => {
    const { model } = await loadModel(path, "reference");
    const [there, here] = [await logitsOf(model), await logitsOf(run.model)];
    there.forEach((value, i) => {
      expect(value).toBeCloseTo(here[i] ?? NaN, 4);
    });
    model.dispose();
  });

  test("that is missing or something else is an error with a fix", async () => {
    await expect(loadModel(`${path}.not`)).rejects.toThrow(/no such file[^]*fix:/);
    await expect(loadModel(text)).rejects.toThrow(/fix:/);
  });
});

describe("a baked model", () => {
  const baked = join(folder, "baked.safetensors");

  test("holds routers instead of a hypernetwork, and gives the same logits bit for bit", async () => {
    await saveModel(baked, saved, { bake: true });
    const names = await namesIn(baked);
    const routers = [...names.keys()].filter((name) => name.startsWith("routers."));
    expect(routers.sort()).toEqual(["routers.source.bias", "routers.source.weight"]);
    const loaded = await loadModel(baked);
    expect(await logitsOf(loaded.model)).toEqual(await logitsOf(run.model));
    for (const topK of [1, 4]) {
      loaded.model.setTopK(topK);
      run.model.setTopK(topK);
      expect(await logitsOf(loaded.model)).toEqual(await logitsOf(run.model));
    }
    run.model.setTopK(run.config.model.topK);
    const frozen = [...loaded.model.namedParameters()].filter(([, { trainable }]) => !trainable);
    expect(frozen.map(([name]) => name).sort()).toEqual(routers);
    // Saved again, it is the same file.
    const again = join(folder, "again.safetensors");
    await saveModel(again, loaded);
    expect(await readFile(again)).toEqual(await readFile(baked));
    loaded.model.dispose();
  });

  test("is smaller in bf16, with its routers in full", async () => {
    const small = join(folder, "bf16.safetensors");
    await saveModel(small, saved, { bake: true, dtype: "bf16" });
    const dtypes = await namesIn(small);
    for (const [name, dtype] of dtypes) expect(dtype).toBe(name.startsWith("routers.") ? "F32" : "BF16");
    expect((await stat(small)).size).toBeLessThan(0.65 * (await stat(baked)).size);
    const { model } = await loadModel(small);
    const [there, here] = [await logitsOf(model), await logitsOf(run.model)];
    there.forEach((value, i) => {
      expect(Math.abs(value - (here[i] ?? NaN))).toBeLessThan(0.02);
    });
    model.dispose();
  });

  test("of learned routers is just the model", async () => {
    const learned = await openRun(tinyConfig(text, { model: { gate: "smoe" } }));
    const { model, config, corpus } = learned;
    await saveModel(baked, { model, config, tokenizer: corpus.tokenizer }, { bake: true });
    const loaded = await loadModel(baked);
    expect(await modelDigest(loaded.model)).toBe(await modelDigest(model));
    expect(loaded.model.countParameters("trainable")).toBe(loaded.model.countParameters());
    loaded.model.dispose();
    await learned.close();
  });
});

describe("damaged files", () => {
  /** A file like `original` with other text in its header, and a checksum that agrees. */
  function withHeader(original: Buffer, change: (header: string) => string): Buffer {
    const end = 8 + Number(original.readBigUInt64LE(0));
    const header = Buffer.from(change(original.subarray(8, end).toString()));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    return withChecksum(Buffer.concat([length, header, original.subarray(end)]));
  }

  /** Makes the checksum right again, as somebody who means harm would. */
  function withChecksum(bytes: Buffer): Buffer {
    const at = findChecksum(bytes);
    if (at === undefined) return bytes;
    bytes.write("00000000", at);
    bytes.write(crc32(bytes).toString(16).padStart(8, "0"), at);
    return bytes;
  }

  test("2,000 mutated model files and checkpoints: no crash, no wrong load", async () => {
    const random = testRandom(5);
    const originals = [
      await readFile(path),
      await readFile((await new CheckpointFolder(folder).latest()) ?? ""),
    ];
    const mutant = join(folder, "mutant.safetensors");
    const counts = { refused: 0, forgedRefused: 0, forgedLoaded: 0 };
    for (let round = 0; counts.refused + counts.forgedRefused + counts.forgedLoaded < 2000; round += 1) {
      const original = originals[round % 2] as Buffer;
      const header = 8 + Number(original.readBigUInt64LE(0));
      const forged = round % 4 === 3;
      // Half of the damage is in the header, where most can go wrong.
      let bytes = mutate(original, round % 8 < 4 ? header : original.length, random);
      if (bytes.equals(original)) continue;
      if (forged) bytes = withChecksum(bytes);
      await writeFile(mutant, bytes);
      const outcome = await loadModel(mutant).catch((error: unknown) => error);
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(forged ? HyperRouterError : CheckpointError);
        counts[forged ? "forgedRefused" : "refused"] += 1;
      } else {
        // With a forged checksum, other weights or settings load, as they are in the file: whole, and usable.
        expect(forged).toBe(true);
        const { model } = outcome as SavedModel;
        expect(await logitsOf(model)).toHaveLength(256);
        model.dispose();
        counts.forgedLoaded += 1;
      }
    }
    const { refused, forgedRefused, forgedLoaded } = counts;
    console.log(
      `${String(refused + forgedRefused + forgedLoaded)} mutated model files and checkpoints: ${String(refused)} refused; ` +
        `with a forged checksum ${String(forgedRefused)} refused, ${String(forgedLoaded)} loaded as they are`,
    );
    expect(refused).toBeGreaterThan(1400);
  }, 120_000);

  test("settings that ask for far more than the file holds are refused before memory is", async () => {
    for (const [before, after] of [
      ['\\"dInner\\":24', '\\"dInner\\":2000000000'],
      ['\\"numLayers\\":2', '\\"numLayers\\":900000000'],
      ['\\"hyperSize\\":8', '\\"hyperSize\\":800000000'],
      ['\\"numExperts\\":4', '\\"numExperts\\":400000000'],
    ] as const) {
      const forged = join(folder, "greedy.safetensors");
      const original = await readFile(path);
      await writeFile(
        forged,
        withHeader(original, (header) => header.replace(before, after)),
      );
      await expect(loadModel(forged)).rejects.toThrow(
        /its settings ask for \d+ parameters or more, it holds/,
      );
    }
  });

  /** The numbers in the progress of a checkpoint, as they stand in its header: `\"updates\":4`. */
  function progressNumbers(bytes: Buffer): string[] {
    const header = bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString();
    const progress = /"progress":"((?:[^"\\]|\\.)*)"/.exec(header)?.[1] ?? "";
    return progress.match(/\\"\w+\\":\d+/g) ?? [];
  }

  test("200 forged states of a run are refused, or go on with what they say: no crash", async () => {
    const original = await readFile((await new CheckpointFolder(folder).latest()) ?? "");
    const forged = join(folder, "forged.safetensors");
    const random = testRandom(11);
    const values = [
      "-1",
      "1.5",
      "1e999",
      "9007199254740991",
      "4503599627370497",
      "null",
      '\\"x\\"',
      "[]",
      "{}",
    ];
    values.push("true", "0", "1", "77");
    const numbers = progressNumbers(original);
    expect(numbers.length).toBeGreaterThan(6);
    const counts = { refused: 0, wentOn: 0 };
    while (counts.refused + counts.wentOn < 200) {
      const number = numbers[random.below(numbers.length)] ?? "";
      const value = values[random.below(values.length)] ?? "";
      const bytes = withHeader(original, (header) =>
        header.replace(number, () => number.replace(/:.*/, () => `:${value}`)),
      );
      await writeFile(forged, bytes);
      const resumed = await openRun(run.config);
      try {
        await resumed.trainer.restore(forged);
        await resumed.trainer.train({ steps: resumed.optimizer.updates + 1 });
        counts.wentOn += 1;
      } catch (error) {
        expect(error).toBeInstanceOf(HyperRouterError);
        counts.refused += 1;
      } finally {
        await resumed.close();
      }
    }
    const { refused, wentOn } = counts;
    console.log(
      `${String(refused + wentOn)} forged states: ${String(refused)} refused, ${String(wentOn)} went on`,
    );
    expect(refused).toBeGreaterThan(60);
  }, 60_000);
});
