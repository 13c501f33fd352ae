import type { GateName } from "../moe/gates.js";
import type { RunConfigInput } from "./config.js";

/** Settings with a name. */
export interface Preset {
  summary: string;
  config: RunConfigInput;
}

/** What all published experiments share (Do et al. 2023; Chen et al. 2023). Tokens are the corpus's usual ones. */
const published = {
  data: { tokens: null },
  model: { dModel: 256, numHeads: 8, dHead: 64, numExperts: 16, topK: 2, hyperSize: 256, memLen: 512 },
  train: {
    ...{ seqLen: 512, optimizer: "adam", lr: 2.5e-4, lrSchedule: "cosine", minLr: 0, warmupSteps: 0 },
    ...{ maxGradNorm: 0.25, maxMinutes: null },
  },
  evaluation: { every: 4000, batchSize: 10, seqLen: 128 },
  checkpoint: { every: 4000 },
  log: { every: 200 },
} satisfies RunConfigInput;

const growing = { topKSchedule: "linear_increase", topKMin: 8, topKMax: 16 } as const;
const steady = { topKSchedule: null } as const;

/** Their methods. A dense network has as many weights as all experts together. */
const methods = {
  "hyper-router": { model: { gate: "hyper-router", dInner: 512, dropout: 0.1 }, train: growing },
  "smoe-dropout": { model: { gate: "smoe-dropout", dInner: 512, dropout: 0.1 }, train: growing },
  smoe: { model: { gate: "smoe", dInner: 512, dropout: 0 }, train: steady },
  dense: { model: { moeLayers: [] as number[], dInner: 8192, dropout: 0 }, train: steady },
} satisfies Record<
  string,
  { model: { gate?: GateName; moeLayers?: number[]; dInner: number; dropout: number }; train: object }
>;

const firstFour = [0, 1, 2, 3];

/** Their sizes. */
const sizes = {
  small: { model: { numLayers: 4 }, train: { steps: 400_000, batchSize: 22 } },
  medium: { model: { numLayers: 8, moeLayers: firstFour }, train: { steps: 400_000, batchSize: 22 } },
  large: { model: { numLayers: 18, moeLayers: firstFour }, train: { steps: 50_000, batchSize: 44 } },
};

function experiment(
  corpus: "enwik8" | "wikitext-103",
  size: keyof typeof sizes,
  method: keyof typeof methods,
): Preset {
  const { model, train } = sizes[size];
  return {
    summary: `${method} on ${corpus}, ${size}: ${String(model.numLayers)} layers`,
    config: {
      ...published,
      data: { ...published.data, corpus },
      model: { ...published.model, ...model, ...methods[method].model },
      train: { ...published.train, ...train, ...methods[method].train },
    },
  };
}

/** The quickstart and the published experiments. All but the quickstart need the path of their texts: `data.path`. */
export const presets = {
  brown: {
    summary: "the quickstart: a small HyperRouter on the Brown corpus",
    // Whatever the machine, it is over in three minutes.
    config: { train: { maxMinutes: 2.9 } },
  },
  enwik8: experiment("enwik8", "small", "hyper-router"),
  "enwik8-smoe-dropout": experiment("enwik8", "small", "smoe-dropout"),
  "enwik8-smoe": experiment("enwik8", "small", "smoe"),
  "enwik8-dense": experiment("enwik8", "small", "dense"),
  "enwik8-medium": experiment("enwik8", "medium", "hyper-router"),
  "enwik8-medium-smoe-dropout": experiment("enwik8", "medium", "smoe-dropout"),
  "enwik8-medium-smoe": experiment("enwik8", "medium", "smoe"),
  "enwik8-large": experiment("enwik8", "large", "hyper-router"),
  "enwik8-large-smoe-dropout": experiment("enwik8", "large", "smoe-dropout"),
  "enwik8-large-smoe": experiment("enwik8", "large", "smoe"),
  "wikitext-103": experiment("wikitext-103", "small", "hyper-router"),
  "wikitext-103-smoe-dropout": experiment("wikitext-103", "small", "smoe-dropout"),
  "wikitext-103-smoe": experiment("wikitext-103", "small", "smoe"),
  "wikitext-103-dense": experiment("wikitext-103", "small", "dense"),
} satisfies Record<string, Preset>;

export type PresetName = keyof typeof presets;

export const presetNames = Object.keys(presets) as PresetName[];
