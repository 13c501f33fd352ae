import { z } from "zod";

import { corpusNames } from "../data/corpora.js";
import { tokenKinds } from "../data/fit-tokenizer.js";
import { productDTypes } from "../dtype.js";
import { ConfigError } from "../errors.js";
import { gateNames } from "../moe/gates.js";
import { topKModes } from "../moe/top-k-schedule.js";
import { unknownKey } from "../options.js";

const integer = (low: number): z.ZodInt => z.int().min(low);
const probability = z.number().min(0).lt(1);

/**
 * Every setting of a training run, its range and its default. The defaults are the quickstart: a small HyperRouter
 * on the Brown corpus that trains in about two minutes on two cores.
 */
const schema = z.strictObject({
  /** Decides initial weights, dropout and sampling. */
  seed: integer(0).default(1111),
  /** See `openDevice`. */
  device: z.string().default("cpu"),
  /** What matrix products multiply; see `ProductDType`. */
  dtype: z.enum(productDTypes).default("f32"),
  data: z
    .strictObject({
      corpus: z.enum(corpusNames).default("brown"),
      /** File or folder of the texts; `brown` finds its own. */
      path: z.string().nullable().default(null),
      /** What a token is; null: the corpus's usual one. */
      tokens: z.enum(tokenKinds).nullable().default("bytes"),
      /** Folder of prepared token files; null: `<path>.tokens`. */
      cacheDir: z.string().nullable().default(null),
    })
    .prefault({}),
  model: z
    .strictObject({
      numLayers: integer(1).default(3),
      dModel: integer(2).default(128),
      numHeads: integer(1).default(4),
      dHead: integer(1).default(32),
      /** Width of the hidden layer of an expert or of a dense feed-forward network. */
      dInner: integer(1).default(256),
      numExperts: integer(1).default(16),
      /** Experts per token, unless a schedule says otherwise. */
      topK: integer(1).default(2),
      gate: z.enum(gateNames).default("hyper-router"),
      /** Hidden width of the hypernetwork. */
      hyperSize: integer(1).default(256),
      /** MoE layers, counted from 0; null: all. The others get one dense feed-forward block. */
      moeLayers: z.array(integer(0)).nullable().default(null),
      /** Hidden states kept from earlier segments, in tokens. */
      memLen: integer(0).default(128),
      dropout: probability.default(0),
      attentionDropout: probability.default(0),
      preNorm: z.boolean().default(false),
      sameLength: z.boolean().default(false),
      /** Longest distance with a position of its own; 0: no limit. */
      clampLen: integer(0).default(0),
      /** Output weights are the embedding table. */
      tied: z.boolean().default(true),
    })
    .prefault({}),
  train: z
    .strictObject({
      /** Updates. */
      steps: integer(1).default(700),
      /** Stops training after this many minutes, whatever the step; null: never. */
      maxMinutes: z.number().positive().nullable().default(null),
      batchSize: integer(1).default(16),
      /** Tokens per segment. */
      seqLen: integer(1).default(128),
      optimizer: z.enum(["adam", "adamw", "sgd", "adagrad"]).default("adam"),
      lr: z.number().positive().default(2e-3),
      lrSchedule: z.enum(["cosine", "invSqrt", "constant", "plateau"]).default("cosine"),
      /** Lowest rate of `cosine` and `plateau`. */
      minLr: z.number().min(0).default(1e-4),
      warmupSteps: integer(0).default(50),
      /** `plateau` multiplies the rate by this ... */
      plateauDecay: z.number().gt(0).lt(1).default(0.5),
      /** ... after more than this many evaluations in a row without improvement. */
      plateauPatience: integer(0).default(0),
      weightDecay: z.number().min(0).default(0),
      /** Of `sgd`. */
      momentum: z.number().min(0).lt(1).default(0.9),
      maxGradNorm: z.number().min(0).default(0.25),
      /** Groups of columns a batch is split into. */
      accumulation: integer(1).default(1),
      /** How k changes during training, from topKMin to topKMax or back; null: it stays at model.topK. */
      topKSchedule: z.enum(topKModes).nullable().default("linear_increase"),
      topKMin: integer(1).default(2),
      topKMax: integer(1).default(8),
      /** Weight of the load-balancing loss; null: as the gate has it. */
      balanceWeight: z.number().min(0).nullable().default(null),
    })
    .prefault({}),
  evaluation: z
    .strictObject({
      /** Updates between evaluations on the validation text while training; null: none. */
      every: integer(1).nullable().default(null),
      /** Stops training after this many of them in a row without improvement; null: never. */
      patience: integer(1).nullable().default(null),
      batchSize: integer(1).default(10),
      seqLen: integer(1).default(128),
      /** Stops after this many segments; null: the whole text. */
      maxBatches: integer(1).nullable().default(null),
    })
    .prefault({}),
  checkpoint: z
    .strictObject({
      /** Updates between checkpoints; null: only the best ones and the last. */
      every: integer(1).nullable().default(500),
      /** How many of the latest to keep, besides the best. */
      keepLast: integer(1).default(2),
    })
    .prefault({}),
  log: z
    .strictObject({
      /** Updates per training record in metrics.jsonl. */
      every: integer(1).default(10),
      /** Write the metrics for TensorBoard too. */
      tensorboard: z.boolean().default(false),
    })
    .prefault({}),
});

/** The settings of a training run. */
export type RunConfig = z.infer<typeof schema>;

/** Settings as a user writes them: any part may be left out. */
export type RunConfigInput = z.input<typeof schema>;

/**
 * Checks settings and fills in defaults.
 *
 * @throws {ConfigError} naming the first key that does not exist (with what was probably meant) or whose value is
 *   not allowed (with what is).
 */
export function parseConfig(input: RunConfigInput | Record<string, unknown> = {}): RunConfig {
  const result = schema.safeParse(input);
  if (!result.success) throw configError(result.error.issues[0], input);
  checkTogether(result.data);
  return result.data;
}

/** What only several settings together can get wrong. */
function checkTogether({ model, train, evaluation }: RunConfig): void {
  const topKs = {
    "model.topK": model.topK,
    ...(train.topKSchedule !== null && { "train.topKMin": train.topKMin, "train.topKMax": train.topKMax }),
  };
  for (const [key, value] of Object.entries(topKs)) {
    if (value > model.numExperts) {
      throw new ConfigError(
        key,
        value,
        `"${key}" is ${String(value)}, but there are ${String(model.numExperts)} experts`,
        `use ${key} <= ${String(model.numExperts)}, or a larger model.numExperts`,
      );
    }
  }
  if (train.topKSchedule !== null && train.topKMin > train.topKMax) {
    const reason = `"train.topKMin" is ${String(train.topKMin)}, above train.topKMax`;
    throw new ConfigError("train.topKMin", train.topKMin, reason, `use at most ${String(train.topKMax)}`);
  }
  const needEvaluations: [key: string, value: unknown, isUsed: boolean][] = [
    ["train.lrSchedule", train.lrSchedule, train.lrSchedule === "plateau"],
    ["evaluation.patience", evaluation.patience, evaluation.patience !== null],
  ];
  for (const [key, value, isUsed] of needEvaluations) {
    if (!isUsed || evaluation.every !== null) continue;
    const reason = `"${key}" is ${String(value)}, but nothing is evaluated while training`;
    throw new ConfigError(key, value, reason, "set evaluation.every to a number of updates");
  }
}

/** Every key with its value, as `train.lr`. */
export function flatConfig(config: RunConfig): [key: string, value: unknown][] {
  return Object.entries(config).flatMap(([key, value]): [string, unknown][] =>
    isSection(value)
      ? Object.entries(value).map(([inner, leaf]) => [`${key}.${inner}`, leaf])
      : [[key, value]],
  );
}

/**
 * Applies `key=value` settings, as given on a command line, to settings that were not parsed yet.
 *
 * @param assignment `train.lr=0.001`. The value is JSON where it parses as such, else text.
 */
export function assign(input: Record<string, unknown>, assignment: string): void {
  const split = assignment.indexOf("=");
  if (split < 1) {
    throw new ConfigError(
      assignment,
      undefined,
      `"${assignment}" is no setting`,
      "write key=value, as in train.lr=0.001",
    );
  }
  const path = assignment.slice(0, split).split(".");
  const last = path.pop() ?? "";
  let section = input;
  for (const key of path) {
    const inner = Object.hasOwn(section, key) ? section[key] : undefined;
    section = isSection(inner) ? inner : (section[key] = {});
  }
  section[last] = parseValue(assignment.slice(split + 1));
}

function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function configError(issue: z.core.$ZodIssue | undefined, input: object): ConfigError {
  const path = (issue?.path ?? []).map(String);
  if (issue?.code === "unrecognized_keys") {
    const key = [...path, issue.keys[0] ?? ""].join(".");
    return unknownKey(
      key,
      valueAt(input, key.split(".")),
      flatConfig(schema.parse({})).map(([known]) => known),
    );
  }
  const key = path.join(".");
  const value = valueAt(input, path);
  return new ConfigError(key, value, `"${key}" is ${JSON.stringify(value)}`, allowed(issue));
}

function valueAt(input: unknown, path: readonly string[]): unknown {
  return path.reduce((value: unknown, key) => (isSection(value) ? value[key] : undefined), input);
}

/** What zod says is wrong, turned into what to do. */
function allowed(issue: z.core.$ZodIssue | undefined): string {
  switch (issue?.code) {
    case "invalid_value":
      return `use one of ${issue.values.map((value) => String(value)).join(", ")}`;
    case "invalid_type":
      return `use a value of type ${issue.expected}`;
    case "too_small":
      return `use ${issue.inclusive === true ? "at least" : "more than"} ${String(issue.minimum)}`;
    case "too_big":
      return `use ${issue.inclusive === true ? "at most" : "less than"} ${String(issue.maximum)}`;
    default:
      return issue?.message ?? "correct the value";
  }
}
