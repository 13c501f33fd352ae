// Comparison with the reference vectors of test/golden.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { expect } from "@jest/globals";

import { readSafetensors, type SafetensorsTensor, toFloat64 } from "../../lib/checkpoint/safetensors.js";
import { type Device, openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { type FloatTensor, indices, type IndexTensor, type Tensor, tensor } from "../../lib/tensor.js";

const folder = fileURLToPath(new URL("../golden/", import.meta.url));

/** What is compared, and how exact each device must be: `max |a - b| <= tolerance · max |b|`. */
export type Kind = "forward" | "gradient" | "trained";

const tolerances = {
  f64: { forward: 1e-9, gradient: 1e-9, trained: 1e-9 },
  f32: { forward: 2e-5, gradient: 2e-4, trained: 1e-4 },
};

/** float64 on `reference`, float32 on the others. */
export const devices = native().cudaDevices() > 0 ? ["cuda"] : ["reference", "cpu"];

/** Golden files whose name starts with `prefix`. */
export function goldenFiles(prefix: string): string[] {
  return readdirSync(folder).filter((name) => name.startsWith(prefix) && name.endsWith(".safetensors"));
}

/** An opened golden file. Counts what was compared: {@link finish} fails when a result was not. */
export class Golden {
  readonly #compared = new Set<string>();

  private constructor(
    readonly device: Device,
    readonly tensors: ReadonlyMap<string, SafetensorsTensor>,
    readonly metadata: ReadonlyMap<string, string>,
  ) {}

  static async open(file: string, device: string): Promise<Golden> {
    const { tensors, metadata } = await readSafetensors(join(folder, file));
    return new Golden(openDevice(device), tensors, metadata);
  }

  meta(key: string): number {
    return Number(this.metadata.get(key));
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  hasAny(prefix: string): boolean {
    return [...this.tensors.keys()].some((name) => name.startsWith(prefix));
  }

  shape(name: string): readonly number[] {
    return this.#tensor(name).shape;
  }

  numbers(name: string): Float64Array {
    return toFloat64(this.#tensor(name));
  }

  /** An input as a float tensor on the device. */
  float(name: string): FloatTensor {
    return tensor(this.numbers(name), this.shape(name), this.device);
  }

  /** An input as an i32 tensor on the device. */
  ids(name: string): IndexTensor {
    return indices(this.numbers(name), this.shape(name), this.device);
  }

  /** Asserts that `actual` is the file's tensor `name`, elements in the same order; exact zeros stay exact. */
  compare(name: string, actual: Tensor | ArrayLike<number>, kind: Kind): void {
    this.#compared.add(name);
    const got = "device" in actual ? actual.dataSync() : actual;
    const want = this.numbers(name);
    const tolerance = tolerances[this.device.float][kind];
    const largest = want.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
    const errors = want.map((value, i) => {
      const error = Math.abs(value - (got[i] ?? NaN));
      return Number.isNaN(error) || (value === 0 && error > 0) ? Infinity : error;
    });
    const worst = got.length === want.length ? errors.reduce((a, b) => Math.max(a, b), 0) : Infinity;
    expect({ name, error: worst <= tolerance * largest ? "small" : worst / largest }).toEqual({
      name,
      error: "small",
    });
  }

  /** Asserts that integers are the same. */
  compareIntegers(name: string, actual: ArrayLike<number>): void {
    this.#compared.add(name);
    expect({ name, values: Array.from(actual) }).toEqual({ name, values: Array.from(this.numbers(name)) });
  }

  /** Compares what was computed under the names `prefix + name` that the file holds; at least one. */
  compareNamed(prefix: string, actual: ReadonlyMap<string, ArrayLike<number>>, kind: Kind): void {
    const held = [...actual].filter(([name]) => this.has(prefix + name));
    expect({ prefix, found: held.length > 0 }).toEqual({ prefix, found: true });
    for (const [name, values] of held) this.compare(prefix + name, values, kind);
  }

  /** Fails when a result in the file was not compared and is not `skipped`, with the reason. */
  finish(skipped: Record<string, string> = {}): void {
    const results = [...this.tensors.keys()].filter((name) => /(^|\.)(out|grad\w*|param3|adam)\./.test(name));
    const missed = results.filter((name) => !this.#compared.has(name) && !(name in skipped));
    expect(missed).toEqual([]);
  }

  #tensor(name: string): SafetensorsTensor {
    const found = this.tensors.get(name);
    if (!found) throw new Error(`the golden file has no tensor "${name}"`);
    return found;
  }
}

/** Expert weights as a dense `[numTokens, numExperts]` matrix, zero for experts that were not selected. */
export function combineMatrix(
  expertIndices: IndexTensor,
  expertWeights: FloatTensor,
  numExperts: number,
): Float64Array {
  const [numTokens = 0, topK = 0] = expertIndices.shape;
  const chosen = expertIndices.dataSync();
  const weights = expertWeights.dataSync();
  const dense = new Float64Array(numTokens * numExperts);
  for (let f = 0; f < numTokens * topK; f += 1) {
    dense[Math.floor(f / topK) * numExperts + chosen[f]!] = weights[f]!;
  }
  return dense;
}

/** The reference lists losses cluster by cluster, in order within each; without cutoffs nothing moves. */
export function inClusterOrder(golden: Golden, nll: ArrayLike<number>, targets: ArrayLike<number>): number[] {
  const cutoffs = (golden.metadata.get("cutoffs") ?? "").match(/\d+/g)?.map(Number) ?? [];
  const cluster = (i: number): number => cutoffs.filter((cutoff) => targets[i]! >= cutoff).length;
  const order = Array.from(nll, (_, i) => i).sort((a, b) => cluster(a) - cluster(b) || a - b);
  return order.map((i) => nll[i]!);
}
