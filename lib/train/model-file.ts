import {
  type SafetensorsDType,
  type SafetensorsFile,
  type SafetensorsSource,
  toFloat64,
} from "../checkpoint/safetensors.js";
import { checkTensors, compareTensors, isParameterName } from "../checkpoint/weights.js";
import { type Tokenizer, tokenizerFromJson } from "../data/tokenizer.js";
import { CheckpointError } from "../errors.js";
import { gates } from "../moe/gates.js";
import { HyperRouters } from "../moe/hyper-routers.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { cast } from "../ops/elementwise.js";
import { scope } from "../scope.js";
import { type FloatTensor, sizeOf } from "../tensor.js";
import { parseConfig, type RunConfig, type RunConfigInput } from "./config.js";
import { buildModel } from "./run.js";
import { openSaved, savedValue, writeSaved } from "./saved-file.js";

/** A model with what is needed to use it. */
export interface SavedModel {
  model: TransformerXL;
  config: RunConfig;
  tokenizer: Tokenizer;
}

export interface SaveModelOptions {
  /**
   * Stores the routers that a hypernetwork makes instead of the hypernetwork. The file is smaller and gives the same
   * results, but its routers do not train any more. Default false.
   */
  bake?: boolean;
  /** How weights are stored; those of routers always in full, as routing hangs on small differences. Default "f32". */
  dtype?: "f32" | "bf16";
}

/**
 * Writes a model to one safetensors file, atomically: parameters by name; settings, tokenizer and a checksum as
 * metadata.
 *
 * @throws {CheckpointError} when the file cannot be written.
 */
export async function saveModel(
  path: string,
  { model, config, tokenizer }: SavedModel,
  { bake = false, dtype = "f32" }: SaveModelOptions = {},
): Promise<void> {
  const source = model.routers?.source;
  const routers = bake && source instanceof HyperRouters ? source.forward() : null;
  const values = [...model.namedParameters()]
    .filter(([name]) => !routers || !name.startsWith(routerPrefix))
    .map(([name, { value }]): [string, FloatTensor] => [name, value]);
  if (routers) values.push([bakedName, routers.weight], [`${routerPrefix}bias`, routers.bias]);
  const tensors = values.map(([name, value]): [string, SafetensorsSource] => {
    return [name, sourceOf(value, name.startsWith(routerPrefix) ? "f32" : dtype)];
  });
  await writeSaved(path, "model", new Map(tensors), { config, tokenizer });
}

const routerPrefix = "routers.source.";
/** Settings with a hypernetwork and a file with this tensor: its routers are baked. */
const bakedName = `${routerPrefix}weight`;

function isGenerated({ model }: RunConfig): boolean {
  return gates[model.gate].weights === "generated";
}

function sourceOf(value: FloatTensor, dtype: "f32" | "bf16"): SafetensorsSource {
  const { shape } = value;
  if (dtype === "bf16") {
    return { dtype: "BF16", shape, data: () => scope(() => cast(value, "bf16").data()) };
  }
  const stored: SafetensorsDType = value.dtype === "f64" ? "F64" : "F32";
  return { dtype: stored, shape, data: () => value.data() };
}

/**
 * Reads a file of {@link saveModel}, or the model in a checkpoint. The model is in evaluation mode.
 *
 * @param device Where to put the model; default: the device it was trained on.
 * @throws {CheckpointError} when the file is missing, damaged or from something else.
 */
export async function loadModel(path: string, device?: string): Promise<SavedModel> {
  const file = await openSaved(path, "model", "checkpoint");
  try {
    const config = savedValue(file, "config", (json) => parseConfig(json as RunConfigInput));
    if (device !== undefined) config.device = device;
    // tf32 exists on GPUs only; the weights do not depend on it.
    if (config.dtype === "tf32" && !config.device.startsWith("cuda")) config.dtype = "f32";
    const tokenizer = savedValue(file, "tokenizer", tokenizerFromJson);
    const baked = isGenerated(config) && file.tensors.has(bakedName);
    checkSize(file, config, tokenizer.vocabSize, baked);
    const model = buildModel(config, tokenizer.vocabSize, { baked });
    try {
      await readParameters(file, model);
    } catch (error) {
      model.dispose();
      throw error;
    }
    model.eval().tokenizer = tokenizer;
    return { model, config, tokenizer };
  } finally {
    await file.close();
  }
}

async function readParameters(file: SafetensorsFile, model: TransformerXL): Promise<void> {
  const shapes = new Map([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));
  const fix = "the file does not fit the settings it holds: restore the original";
  checkTensors(file.path, compareTensors(shapes, file, isParameterName), fix);
  for (const [name, parameter] of model.namedParameters()) parameter.set(toFloat64(await file.read(name)));
}

/** Refuses settings that ask for far more memory than the file's tensors could fill. */
function checkSize(file: SafetensorsFile, config: RunConfig, vocabSize: number, baked: boolean): void {
  const { numLayers, dModel, numHeads, dHead, dInner, numExperts, hyperSize, moeLayers } = config.model;
  const hasExperts = moeLayers === null || moeLayers.length > 0;
  const hasHypernetwork = hasExperts && isGenerated(config) && !baked;
  const least = Math.max(
    vocabSize * dModel,
    numLayers * dModel * Math.max(dInner, numHeads * dHead),
    hasExperts ? numExperts * dModel * dInner : 0,
    hasHypernetwork ? hyperSize * numExperts * (dModel + 1) : 0,
  );
  const stored = [...file.tensors.values()].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  if (least <= stored) return;
  const reason = `its settings ask for ${String(least)} parameters or more, it holds ${String(stored)}`;
  throw new CheckpointError(file.path, undefined, reason, "restore the original file");
}
