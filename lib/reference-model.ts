import { type SafetensorsTensor, toFloat64 } from "./checkpoint/safetensors.js";
import { type Device, openDevice } from "./device.js";
import { ConfigError, CheckpointError } from "./errors.js";
import type { GateName } from "./moe/gates.js";
import { MoELayer } from "./moe/moe-layer.js";
import { Routers } from "./moe/routers.js";
import { AdaptiveEmbedding } from "./nn/adaptive-embedding.js";
import { AdaptiveLogSoftmax } from "./nn/adaptive-log-softmax.js";
import { Dropout } from "./nn/dropout.js";
import { Initializer } from "./nn/initializer.js";
import type { Module } from "./nn/module.js";
import type { Parameter } from "./nn/parameter.js";
import { ResidualNorm } from "./nn/residual-norm.js";
import { TransformerXLLayer } from "./nn/transformer-xl-layer.js";
import { TransformerXL } from "./nn/transformer-xl.js";
import { referenceSlots } from "./reference-names.js";
import { sizeOf, type Shape } from "./tensor.js";

export { type ReferenceSlot, referenceSlots } from "./reference-names.js";

/** Metadata of a reference file, as `readSafetensors` returns it. */
export type ReferenceMetadata = ReadonlyMap<string, string>;
/** Tensors of a reference file, as `readSafetensors` returns them. */
export type ReferenceTensors = ReadonlyMap<string, SafetensorsTensor>;

/**
 * Copies the parameters of a reference file into a module: a `TransformerXL`, or any part of one. Names map as in
 * docs/golden-names.md; tensors that the module has no place for are left alone.
 *
 * @throws {CheckpointError} for a parameter that the file lacks or has in another shape.
 * @example loadReference(model, (await readSafetensors(path)).tensors);
 */
export function loadReference(
  module: Module,
  tensors: ReferenceTensors,
  {
    prefix = "param.",
  }: {
    /** What the file puts before its names. Default `param.`. */
    prefix?: string;
  } = {},
): void {
  const values = new Map<Parameter, Float64Array>();
  for (const { name, parameter, offset, shape } of referenceSlots(module)) {
    const tensor = tensors.get(prefix + name);
    if (!tensor || squeezed(tensor.shape) !== squeezed(shape)) {
      throw new CheckpointError(
        prefix + name,
        undefined,
        tensor
          ? `has shape [${tensor.shape.join(", ")}], the model's is [${shape.join(", ")}]`
          : "is not in the file",
        "build the module from the file's metadata, or pass another prefix",
      );
    }
    let value = values.get(parameter);
    if (!value) values.set(parameter, (value = new Float64Array(parameter.size)));
    value.set(toFloat64(tensor), offset);
  }
  for (const [parameter, value] of values) parameter.set(value);
}

/**
 * Reads a module's parameters, or their gradients, under the reference's names. Frozen parameters have no gradient.
 *
 * @returns Row-major numbers by name.
 */
export async function readReference(
  module: Module,
  what: "value" | "gradient" = "value",
): Promise<Map<string, Float64Array>> {
  const out = new Map<string, Float64Array>();
  for (const { name, parameter, offset, shape } of referenceSlots(module)) {
    if (what === "gradient" && !parameter.trainable) continue;
    const data = await (what === "value" ? parameter.value : parameter.gradient()).data();
    out.set(name, Float64Array.from(data.subarray(offset, offset + sizeOf(shape))));
  }
  return out;
}

/** Shapes that differ in axes of size 1 only hold the same numbers. */
function squeezed(shape: Shape): string {
  return shape.filter((extent) => extent !== 1).join();
}

/** The language model of a file of family e (`e_lm`, `e_lm_train3`), with initial parameters. */
export function referenceModel(metadata: ReferenceMetadata, device: Device = openDevice()): TransformerXL {
  const meta = new Metadata(metadata);
  const layers = meta.integers("moe_index");
  return new TransformerXL(
    {
      vocabSize: meta.integer("V"),
      numLayers: meta.integer("L"),
      numHeads: meta.integer("nh"),
      dModel: meta.integer("d"),
      dHead: meta.integer("dh"),
      dInner: meta.integer("di"),
      memLen: meta.integer("mem"),
      sameLength: meta.flag("same", false),
      clampLen: meta.integer("clamp", 0),
      preNorm: meta.flag("pre", false),
      dEmbed: meta.integer("de", meta.integer("d")),
      cutoffs: meta.integers("cutoffs") ?? [],
      divVal: meta.integer("div", 1),
      tied: meta.flag("tie", true),
      tieProjections: meta.flags("tie_projs"),
      moe: meta.flag("moe", true)
        ? {
            numExperts: meta.integer("E"),
            topK: meta.integer("k"),
            hyperSize: meta.integer("hyper_size"),
            freezeHypernet: meta.flag("freeze_hypernet", false),
            ...(layers && { layers }),
          }
        : null,
    },
    new Initializer({ device }),
  );
}

/** The routers of one layer of a file of family a, b, c or d. The hypernetwork trains, as the files' gradients do. */
export function referenceRouters(
  metadata: ReferenceMetadata,
  device: Device = openDevice(),
  gate: GateName = metadata.has("hyper_size") ? "hyper-router" : "smoe",
): Routers {
  const meta = new Metadata(metadata);
  return new Routers(
    {
      numLayers: 1,
      numExperts: meta.integer("num_expert"),
      dModel: meta.integer("d_model"),
      topK: meta.integer("top_k"),
      hyperSize: meta.integer("hyper_size", 256),
      gate: meta.flag("dense_moe_flag", false) ? "hyper-router-uniform" : gate,
      freezeHypernet: false,
    },
    new Initializer({ device }),
  );
}

/** The mixture of experts of a file of family b or c, and the residual and norm around it. */
export function referenceMoE(
  metadata: ReferenceMetadata,
  device: Device = openDevice(),
): { moe: MoELayer; norm: ResidualNorm } {
  const meta = new Metadata(metadata);
  const init = new Initializer({ device });
  const dropout = new Dropout(0, init.stream("dropout"));
  const dModel = meta.integer("d_model");
  const sizes = { numExperts: meta.integer("num_expert"), dModel, dInner: meta.integer("d_inner") };
  return {
    moe: new MoELayer({ ...sizes, dropout }, init),
    norm: new ResidualNorm({ d: dModel, preNorm: meta.flag("pre_lnorm", false), dropout }, init),
  };
}

/** The layer of a file of family d. */
export function referenceLayer(
  metadata: ReferenceMetadata,
  device: Device = openDevice(),
): TransformerXLLayer {
  const meta = new Metadata(metadata);
  const init = new Initializer({ device });
  const dropout = new Dropout(0, init.stream("dropout"));
  return new TransformerXLLayer(
    {
      dModel: meta.integer("d_model"),
      numHeads: meta.integer("n_head"),
      dHead: meta.integer("d_head"),
      dInner: meta.integer("d_inner"),
      numExperts: meta.flag("moe", false) ? meta.integer("num_expert") : null,
      preNorm: meta.flag("pre_lnorm", false),
      dropout,
      attentionDropout: dropout,
    },
    init,
  );
}

/** The adaptive softmax (`param.crit.`) and embedding (`param.emb.`) of a file of family f. */
export function referenceAdaptive(
  metadata: ReferenceMetadata,
  device: Device = openDevice(),
): { softmax: AdaptiveLogSoftmax; embedding: AdaptiveEmbedding } {
  const meta = new Metadata(metadata);
  const init = new Initializer({ device });
  const options = {
    vocabSize: meta.integer("n_token"),
    dModel: meta.integer("d_proj"),
    dEmbed: meta.integer("d_embed"),
    cutoffs: meta.integers("cutoffs") ?? [],
    divVal: meta.integer("div_val"),
  };
  return { softmax: new AdaptiveLogSoftmax(options, init), embedding: new AdaptiveEmbedding(options, init) };
}

/** Typed look-ups in metadata, which is all strings: `37`, `True`, `0`, `[20, 40]`, `[False, True]`. */
class Metadata {
  constructor(private readonly entries: ReferenceMetadata) {}

  integer(key: string, fallback?: number): number {
    const text = this.entries.get(key);
    const value = text === undefined ? fallback : Number(text);
    if (value === undefined || !Number.isInteger(value)) {
      throw new ConfigError(
        key,
        text,
        `metadata "${key}" is ${text ?? "missing"}`,
        "use a file of the right family",
      );
    }
    // -1 stands for "off" in the reference.
    return Math.max(0, value);
  }

  flag(key: string, fallback: boolean): boolean {
    const text = this.entries.get(key);
    return text === undefined ? fallback : isTrue(text);
  }

  integers(key: string): number[] | undefined {
    return this.#list(key)?.map(Number);
  }

  flags(key: string): boolean[] {
    return this.#list(key)?.map(isTrue) ?? [];
  }

  #list(key: string): string[] | undefined {
    return this.entries.get(key)?.match(/[^\s,[\]]+/g) ?? (this.entries.has(key) ? [] : undefined);
  }
}

function isTrue(text: string): boolean {
  return text === "True" || text === "1";
}
