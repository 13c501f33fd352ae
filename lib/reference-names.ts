import { ConfigError } from "./errors.js";
import { HyperRouters } from "./moe/hyper-routers.js";
import { Experts } from "./moe/experts.js";
import { LinearRouters, Routers } from "./moe/routers.js";
import { AdaptiveEmbedding } from "./nn/adaptive-embedding.js";
import { AdaptiveLogSoftmax } from "./nn/adaptive-log-softmax.js";
import { FeedForward } from "./nn/feed-forward.js";
import { Module } from "./nn/module.js";
import { Parameter } from "./nn/parameter.js";
import { RelativeAttention } from "./nn/relative-attention.js";
import { TransformerXLLayer } from "./nn/transformer-xl-layer.js";
import { TransformerXL } from "./nn/transformer-xl.js";
import { type Shape, sizeOf } from "./tensor.js";

/** A tensor of the reference implementation: a parameter of ours, or one layer's part of a stacked one. */
export interface ReferenceSlot {
  /** The reference's name, without a prefix such as `param.`. */
  name: string;
  parameter: Parameter;
  /** Where the part begins, in elements. */
  offset: number;
  shape: Shape;
}

/** Our fields and the reference's names, by module. `*` stands for the index in a list. Others keep their names. */
const names: readonly (readonly [abstract new (...args: never[]) => Module, Record<string, string>])[] = [
  [
    TransformerXL,
    { contentBias: "r_w_bias", positionBias: "r_r_bias", embedding: "word_emb", softmax: "crit" },
  ],
  [
    TransformerXLLayer,
    {
      attention: "dec_attn",
      attentionNorm: "dec_attn.layer_norm",
      feedForward: "pos_ff",
      feedForwardNorm: "pos_ff.layer_norm",
    },
  ],
  [RelativeAttention, { qkv: "qkv_net", position: "r_net", output: "o_net" }],
  [FeedForward, { inner: "CoreNet.0", outer: "CoreNet.3" }],
  [Experts, { w1: "htoh4.weight", b1: "htoh4.bias", w2: "h4toh.weight", b2: "h4toh.bias" }],
  [AdaptiveEmbedding, { tables: "emb_layers.*", projections: "emb_projs.*.weight" }],
  [
    AdaptiveLogSoftmax,
    {
      weights: "out_layers.*.weight",
      biases: "out_layers.*.bias",
      projections: "out_projs.*.weight",
      clusterWeight: "cluster_weight",
      clusterBias: "cluster_bias",
    },
  ],
  [
    HyperRouters,
    {
      embeddings: "embedding",
      w1: "hypernet.0.weight",
      b1: "hypernet.0.bias",
      w2: "hypernet.2.weight",
      b2: "hypernet.2.bias",
    },
  ],
  [LinearRouters, { weight: "gate.weight", bias: "gate.bias" }],
];

/**
 * Every parameter of a module under the names of the reference implementation (see docs/golden-names.md). Parameters
 * that two parts share appear once.
 */
export function* referenceSlots(module: Module): Generator<ReferenceSlot> {
  const seen = new Set<Parameter>();
  for (const slot of slots(module, "")) {
    if (slot.offset === 0 && seen.has(slot.parameter)) continue;
    seen.add(slot.parameter);
    yield slot;
  }
}

function* slots(module: Module, prefix: string): Generator<ReferenceSlot> {
  if (module instanceof Routers) {
    yield* stackedSlots(module, [prefix]);
    return;
  }
  const fields = names.find(([type]) => module instanceof type)?.[1] ?? {};
  for (const [field, value] of Object.entries(module) as [string, unknown][]) {
    if (module instanceof TransformerXL && value instanceof Routers) {
      yield* stackedSlots(
        value,
        module.moeLayers.map((layer) => `${prefix}layers.${String(layer)}.pos_ff.gate.`),
      );
      continue;
    }
    const name = fields[field] ?? (Array.isArray(value) ? `${field}.*` : field);
    for (const [i, part] of (Array.isArray(value) ? (value as unknown[]) : [value]).entries()) {
      const path = prefix + name.replace("*", String(i));
      if (part instanceof Parameter) yield { name: path, parameter: part, offset: 0, shape: part.shape };
      else if (part instanceof Module) yield* slots(part, `${path}.`);
    }
  }
}

/** The routers of all layers are stacked here; the reference names each layer's. */
function* stackedSlots(routers: Routers, prefixes: readonly string[]): Generator<ReferenceSlot> {
  const { source } = routers;
  for (const { name, parameter } of slots(source, "")) {
    const [count, ...shape] = parameter.shape;
    if (count !== prefixes.length) {
      throw new ConfigError(
        "hypernetScope",
        "shared",
        "the reference has no hypernetwork that layers share",
        'build the model with hypernetScope "per-layer"',
      );
    }
    for (const [layer, prefix] of prefixes.entries()) {
      yield { name: prefix + name, parameter, offset: layer * sizeOf(shape), shape };
    }
  }
}
