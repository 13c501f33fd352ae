import {
  readSafetensors,
  type SafetensorsSource,
  toFloat64,
  writeSafetensors,
} from "../checkpoint/safetensors.js";
import { type Tokenizer, tokenizerFromJson } from "../data/tokenizer.js";
import { CheckpointError } from "../errors.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { parseConfig, type RunConfig } from "./config.js";
import { buildModel } from "./run.js";

const format = "hyperrouter-model-1";

/** A model with what is needed to use it. */
export interface SavedModel {
  model: TransformerXL;
  config: RunConfig;
  tokenizer: Tokenizer;
}

/** Writes a model to one safetensors file, atomically: parameters by name; settings and tokenizer as metadata. */
export async function saveModel(path: string, { model, config, tokenizer }: SavedModel): Promise<void> {
  const tensors = new Map<string, SafetensorsSource>();
  for (const [name, { value }] of model.namedParameters()) {
    const dtype = value.dtype === "f64" ? "F64" : "F32";
    tensors.set(name, { dtype, shape: value.shape, data: () => value.data() });
  }
  const metadata = { format, config: JSON.stringify(config), tokenizer: JSON.stringify(tokenizer) };
  await writeSafetensors(path, tensors, new Map(Object.entries(metadata)));
}

/**
 * Reads a file of {@link saveModel}.
 *
 * @param device Where to put the model; default: the device it was trained on.
 * @throws {CheckpointError} when the file is missing, damaged or from something else.
 */
export async function loadModel(path: string, device?: string): Promise<SavedModel> {
  const { tensors, metadata } = await readSafetensors(path);
  if (metadata.get("format") !== format) {
    throw new CheckpointError(
      path,
      undefined,
      "this file holds no hyperrouter model",
      "pass a file that training wrote",
    );
  }
  const config = parseConfig(parseJson(path, "config", metadata.get("config")) as RunConfig);
  if (device !== undefined) config.device = device;
  const tokenizer = tokenizerFromJson(parseJson(path, "tokenizer", metadata.get("tokenizer")));
  const model = buildModel(config, tokenizer.vocabSize);
  model.tokenizer = tokenizer;
  const unused = new Set(tensors.keys());
  for (const [name, parameter] of model.namedParameters()) {
    const stored = tensors.get(name);
    if (!stored || stored.shape.join() !== parameter.shape.join()) {
      const found = stored ? `has shape [${stored.shape.join(", ")}]` : "is missing";
      throw new CheckpointError(
        path,
        undefined,
        `"${name}" ${found}, expected shape [${parameter.shape.join(", ")}]`,
        "the file does not fit the settings it holds: train again, or restore the original file",
      );
    }
    parameter.set(toFloat64(stored));
    unused.delete(name);
  }
  if (unused.size > 0) {
    throw new CheckpointError(
      path,
      undefined,
      `unexpected tensors: ${[...unused].join(", ")}`,
      "restore the original file",
    );
  }
  return { model, config, tokenizer };
}

function parseJson(path: string, key: string, text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "") as unknown;
  } catch {
    throw new CheckpointError(
      path,
      undefined,
      `the metadata "${key}" is no JSON`,
      "restore the original file",
    );
  }
}
