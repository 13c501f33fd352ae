/**
 * A checkpoint: everything a training run needs to go on bit for bit, in one safetensors file.
 *
 *     <parameter>                      the model's parameters, as in a model file
 *     optimizer/<state>/<parameter>    what the optimiser remembers, by parameter: m, v, ...
 *     memory/<group>/<layer>           hidden states carried to the next batch
 *     metadata                         config, tokenizer, progress: JSON; format; crc32
 */

import { z } from "zod";

import {
  type SafetensorsFile,
  type SafetensorsTensor,
  toFloat32,
  toFloat64,
} from "../checkpoint/safetensors.js";
import { checkTensors, compareTensors } from "../checkpoint/weights.js";
import type { Tokenizer } from "../data/tokenizer.js";
import type { Device } from "../device.js";
import { CheckpointError } from "../errors.js";
import type { Memory } from "../nn/memory.js";
import type { Module } from "../nn/module.js";
import type { Optimizer } from "../optim/optimizer.js";
import { scope } from "../scope.js";
import { type FloatTensor, type Shape, tensor } from "../tensor.js";
import { openSaved, savedValue, writeSaved } from "./saved-file.js";

const count = z.int().min(0);
const best = z.strictObject({ nats: z.number(), step: count }).nullable();

const progressSchema = z.strictObject({
  /** Updates done: the position in every schedule. */
  updates: count,
  /** Where the next batch starts. */
  cursor: z.strictObject({ epoch: count, position: count }),
  /** Calls of each random stream of the model so far. */
  randomCalls: z.record(z.string(), count),
  /** Experts per token in the last update. */
  topK: count,
  validation: z
    .strictObject({
      evaluatedAt: count,
      best: z.strictObject({ base: best, dense: best }),
      evaluationsSinceBest: count,
    })
    .nullable(),
  /** Of a learning rate that follows the validation loss. */
  plateau: z
    .strictObject({ lr: z.number(), bestLoss: z.number().nullable(), badEvaluations: count })
    .nullable(),
  /** What the data and the memories were cut into; a run with other numbers cannot go on from here. */
  layout: z.strictObject({
    batchSize: count,
    columnLength: count,
    accumulation: count,
    optimizer: z.string(),
  }),
});

/** Where a run stands: plain JSON. */
export type Progress = z.infer<typeof progressSchema>;

/** The tensors of a run. */
export interface TrainedTensors {
  model: Module;
  optimizer: Optimizer;
  /** One per group of columns. */
  memories: readonly (Memory | null)[];
}

/** What a checkpoint holds besides tensors. */
export interface CheckpointInfo {
  progress: Progress;
  /** Settings of the run; null when it was given none. */
  config: unknown;
}

/** A checkpoint that is not written yet, in host memory. */
export interface Snapshot extends CheckpointInfo {
  tensors: ReadonlyMap<string, SafetensorsTensor>;
  tokenizer: Tokenizer | null;
}

/**
 * Copies the tensors of a run to host memory. All of them are as after the ops queued so far, as long as no other op
 * is queued before the promise resolves. Large models are copied in pieces, between which the event loop turns.
 */
export async function captureTensors(run: TrainedTensors): Promise<Map<string, SafetensorsTensor>> {
  const tensors = new Map<string, SafetensorsTensor>();
  const read = async (name: string, value: FloatTensor): Promise<void> => {
    const dtype = value.dtype === "f64" ? "F64" : "F32";
    tensors.set(name, { dtype, shape: value.shape, data: await value.data() });
  };
  for (const [name, parameter] of run.model.namedParameters()) {
    await scope(async () => {
      const state = run.optimizer.stateOf(parameter);
      await Promise.all([
        read(name, parameter.value),
        ...state.map(([key, value]) => read(`optimizer/${key}/${name}`, value)),
      ]);
    });
  }
  for (const [group, memory] of run.memories.entries()) {
    for (const [layer, hidden] of (memory ?? []).entries()) {
      await read(memoryName(group, layer), hidden);
    }
  }
  return tensors;
}

/** Writes a snapshot, atomically: a file at `path` is complete, and on the disk when the promise resolves. */
export async function writeCheckpoint(path: string, { tensors, ...values }: Snapshot): Promise<void> {
  await writeSaved(path, "checkpoint", tensors, values);
}

/** Reads how far a checkpoint's run was, and its settings. @throws {CheckpointError} when the file is damaged. */
export async function checkpointInfo(path: string): Promise<CheckpointInfo> {
  const file = await openSaved(path, "checkpoint");
  try {
    return infoOf(file);
  } finally {
    await file.close();
  }
}

export function infoOf(file: SafetensorsFile): CheckpointInfo {
  return {
    progress: savedValue(file, "progress", (json) => {
      const { data, error } = progressSchema.safeParse(json);
      if (data) return data;
      const [issue] = error.issues;
      throw new TypeError(`"${issue?.path.join(".") ?? ""}": ${issue?.message ?? "wrong"}`);
    }),
    config: savedValue(file, "config", (json) => json),
  };
}

/**
 * Puts the tensors of a checkpoint into a model and its optimiser.
 *
 * @returns the memories, which the caller disposes.
 * @throws {CheckpointError} naming every tensor that does not fit, before any changes.
 */
export async function restoreTensors(
  file: SafetensorsFile,
  { model, optimizer }: Omit<TrainedTensors, "memories">,
): Promise<(Memory | null)[]> {
  const shapes = new Map<string, Shape>();
  for (const [name, parameter] of model.namedParameters()) {
    shapes.set(name, parameter.shape);
    if (!optimizer.arena.has(parameter)) continue;
    for (const key of optimizer.stateNames) shapes.set(`optimizer/${key}/${name}`, parameter.shape);
  }
  const differences = compareTensors(shapes, file, (name) => !name.startsWith("memory/"));
  checkTensors(file.path, differences, "resume with the settings of its run, or load its weights alone");
  for (const [name, parameter] of model.namedParameters()) {
    parameter.set(toFloat64(await file.read(name)));
    await scope(async () => {
      for (const [key, state] of optimizer.stateOf(parameter)) {
        const values = await file.read(`optimizer/${key}/${name}`);
        state.set(state.dtype === "f64" ? toFloat64(values) : toFloat32(values));
      }
    });
  }
  return readMemories(file, model.parameters()[0]?.value.device);
}

async function readMemories(file: SafetensorsFile, device: Device | undefined): Promise<Memory[]> {
  const memories: FloatTensor[][] = [];
  for (let group = 0; file.tensors.has(memoryName(group, 0)); group += 1) {
    const memory: FloatTensor[] = [];
    for (let layer = 0; file.tensors.has(memoryName(group, layer)); layer += 1) {
      const stored = await file.read(memoryName(group, layer));
      memory.push(tensor(toFloat64(stored), stored.shape, device).keep());
    }
    memories.push(memory);
  }
  return memories;
}

function memoryName(group: number, layer: number): string {
  return `memory/${String(group)}/${String(layer)}`;
}

/** A setting that has two values. */
interface Difference {
  key: string;
  found: unknown;
  expected: unknown;
}

/** @throws {CheckpointError} naming every key whose value in the file is not the expected one. */
export function checkValues(
  path: string,
  what: string,
  found: unknown,
  expected: unknown,
  mayDiffer: readonly string[] = [],
): void {
  const allowed = (key: string): boolean =>
    mayDiffer.some((other) => key === other || key.startsWith(`${other}.`));
  const differing = differences(found, expected, "").filter(({ key }) => !allowed(key));
  if (differing.length === 0) return;
  const list = differing.map(
    ({ key, found: a, expected: b }) =>
      `${key || what} (${JSON.stringify(a)} there, ${JSON.stringify(b)} here)`,
  );
  throw new CheckpointError(
    path,
    undefined,
    `its ${what} differ: ${list.join(", ").slice(0, 2000)}`,
    "resume with the values of its run, or load its weights into a new run",
  );
}

function differences(found: unknown, expected: unknown, key: string): Difference[] {
  if (isObject(found) && isObject(expected)) {
    const keys = new Set([...Object.keys(found), ...Object.keys(expected)]);
    return [...keys].flatMap((inner) =>
      differences(found[inner], expected[inner], key === "" ? inner : `${key}.${inner}`),
    );
  }
  return JSON.stringify(found) === JSON.stringify(expected) ? [] : [{ key, found, expected }];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
