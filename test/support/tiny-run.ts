import { createHash } from "node:crypto";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Module } from "../../lib/nn/module.js";
import { parseConfig, type RunConfig } from "../../lib/train/config.js";

/** A text of `lines` lines with some structure, the same for the same seed. */
export function tinyText(lines: number, seed = 1): string {
  const words = ["the", "jury", "said", "an", "expert", "routes", "tokens", "to", "rivers", "and", "gates"];
  let state = seed;
  const next = (): number => (state = (state * 48271) % 2147483647);
  return Array.from(
    { length: lines },
    () => `${Array.from({ length: 4 + (next() % 5) }, () => words[next() % words.length] ?? "").join(" ")}.`,
  ).join("\n");
}

/** Writes a text file into a new folder. @returns its path. */
export async function tinyTextFile(seed = 1): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "text.txt");
  await writeFile(path, tinyText(400, seed));
  return path;
}

/** Settings that differ, by section; `device`, `dtype`, `seed` and the like have none. */
interface Overrides {
  model?: object;
  train?: object;
  data?: object;
  evaluation?: object;
  [setting: string]: unknown;
}

/** Settings of a model that trains a few steps in well under a second. */
export function tinyConfig(path: string, overrides: Overrides = {}): RunConfig {
  const { model = {}, train = {}, data = {}, evaluation = {}, ...rest } = overrides;
  return parseConfig({
    ...rest,
    data: { corpus: "text", path, tokens: "bytes", ...data },
    model: {
      ...{
        numLayers: 2,
        dModel: 16,
        numHeads: 2,
        dHead: 8,
        dInner: 24,
        numExperts: 4,
        topK: 2,
        hyperSize: 8,
      },
      ...{ memLen: 8 },
      ...model,
    },
    train: {
      ...{ steps: 5, batchSize: 4, seqLen: 12, warmupSteps: 2, topKSchedule: null, topKMin: 1, topKMax: 4 },
      ...train,
    },
    evaluation: { batchSize: 2, seqLen: 16, ...evaluation },
  });
}

/** A digest of all parameters, bit for bit. */
export async function modelDigest(model: Module): Promise<string> {
  const hash = createHash("sha256");
  for (const [name, { value }] of model.namedParameters()) hash.update(name).update(await value.data());
  return hash.digest("hex");
}

/** A new empty folder. */
export function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), "hyperrouter-"));
}
