import { CheckpointError } from "../errors.js";
import type { Module } from "../nn/module.js";
import type { Shape } from "../tensor.js";
import { SafetensorsFile, toFloat64 } from "./safetensors.js";

/** How the tensors of a file differ from those that were expected. */
export interface TensorDifferences {
  /** Expected, but not in the file. */
  missing: string[];
  /** In the file, but not expected. */
  unexpected: string[];
  /** In both, with different shapes. */
  mismatched: { name: string; expected: Shape; found: Shape }[];
}

/** What {@link loadWeights} did, by parameter name. */
export interface LoadReport extends TensorDifferences {
  loaded: string[];
}

/**
 * Copies the tensors of a safetensors file into the parameters of the same names: all of them or, with `partial`,
 * those that fit. A file of `saveModel` or a checkpoint will do, or any other; what a checkpoint holds besides
 * parameters is left alone.
 *
 * @returns what was and what was not loaded.
 * @throws {CheckpointError} naming every tensor that does not fit, before any parameter changes, unless `partial`.
 * @example
 * const { loaded, missing } = await loadWeights(classifier, "runs/wiki/best.safetensors", { partial: true });
 */
export async function loadWeights(
  module: Module,
  path: string,
  { partial = false } = {},
): Promise<LoadReport> {
  const file = await SafetensorsFile.open(path);
  try {
    const parameters = new Map(module.namedParameters());
    const shapes = new Map([...parameters].map(([name, { shape }]) => [name, shape]));
    const differences = compareTensors(shapes, file, isParameterName);
    if (!partial) checkTensors(path, differences);
    const loaded: string[] = [];
    for (const [name, parameter] of parameters) {
      if (!fits(shapes.get(name), file.tensors.get(name)?.shape)) continue;
      parameter.set(toFloat64(await file.read(name)));
      loaded.push(name);
    }
    return { loaded, ...differences };
  } finally {
    await file.close();
  }
}

/** Parameters are named by their path; what else a checkpoint holds has a slash in its name. */
export function isParameterName(name: string): boolean {
  return !name.includes("/");
}

/** Compares names and shapes; tensors of the file that `counts` refuses are left out. */
export function compareTensors(
  expected: ReadonlyMap<string, Shape>,
  { tensors }: SafetensorsFile,
  counts: (name: string) => boolean,
): TensorDifferences {
  const differences: TensorDifferences = { missing: [], unexpected: [], mismatched: [] };
  for (const [name, shape] of expected) {
    const found = tensors.get(name)?.shape;
    if (!found) differences.missing.push(name);
    else if (!fits(shape, found)) differences.mismatched.push({ name, expected: shape, found });
  }
  for (const name of tensors.keys()) {
    if (!expected.has(name) && counts(name)) differences.unexpected.push(name);
  }
  return differences;
}

/** @throws {CheckpointError} that lists the differences, if there are any. */
export function checkTensors(
  path: string,
  { missing, unexpected, mismatched }: TensorDifferences,
  fix = "load it into the model it was saved from, or use { partial: true } to load what fits",
): void {
  const parts = [
    ...(missing.length > 0 ? [`lacks ${list(missing)}`] : []),
    ...(unexpected.length > 0 ? [`has ${list(unexpected)}, which the model has not`] : []),
    ...mismatched
      .slice(0, mostListed)
      .map(({ name, expected, found }) => `"${name}" has shape ${text(found)}, expected ${text(expected)}`),
    ...(mismatched.length > mostListed
      ? [`${String(mismatched.length - mostListed)} more shapes differ`]
      : []),
  ];
  if (parts.length > 0) throw new CheckpointError(path, undefined, parts.join("; "), fix);
}

const mostListed = 12;

function list(names: readonly string[]): string {
  const shown = names.slice(0, mostListed).map((name) => `"${name.slice(0, 100)}"`);
  const rest = names.length - shown.length;
  return shown.join(", ") + (rest > 0 ? ` and ${String(rest)} more` : "");
}

function fits(a: Shape | undefined, b: Shape | undefined): boolean {
  return a !== undefined && a.join() === b?.join();
}

function text(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}
