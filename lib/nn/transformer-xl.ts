import type { Tokenizer } from "../data/tokenizer.js";
import type { Device } from "../device.js";
import { ConfigError } from "../errors.js";
import type { GateName, Gate } from "../moe/gates.js";
import type { HypernetworkOptions } from "../moe/hyper-routers.js";
import type { Routing } from "../moe/router.js";
import { Routers, type RouterSourceFactory } from "../moe/routers.js";
import { add, scale } from "../ops/elementwise.js";
import { mean } from "../ops/reduce.js";
import { at, rows } from "../ops/view.js";
import { checkInteger, rejectUnknownKeys } from "../options.js";
import type { RandomStream } from "../random.js";
import { scope } from "../scope.js";
import type { FloatTensor, IndexTensor } from "../tensor.js";
import { AdaptiveEmbedding } from "./adaptive-embedding.js";
import { AdaptiveLogSoftmax } from "./adaptive-log-softmax.js";
import { Dropout } from "./dropout.js";
import { generate, type GeneratedToken, type GenerateOptions } from "./generate.js";
import { Initializer } from "./initializer.js";
import { type Memory, remember } from "./memory.js";
import { Module } from "./module.js";
import type { Parameter } from "./parameter.js";
import { Positions } from "./positions.js";
import type { RelativePositions } from "./relative-attention.js";
import { score, type Score, type ScoreOptions } from "./score.js";
import { TransformerXLLayer } from "./transformer-xl-layer.js";

export type { Memory };

/** The mixture of experts of a model. */
export interface MoEOptions extends HypernetworkOptions {
  numExperts: number;
  /** Experts kept per token. Default 2. */
  topK?: number;
  /** Default "hyper-router". */
  gate?: GateName | Gate;
  /** Where the routers come from. Default: what the gate says. */
  routerSource?: RouterSourceFactory;
  /** Which layers have experts, from 0. Default: all. */
  layers?: readonly number[];
}

export interface TransformerXLOptions {
  vocabSize: number;
  numLayers: number;
  dModel: number;
  numHeads: number;
  /** Default: dModel / numHeads. */
  dHead?: number;
  /** Width of the hidden layer of each feed-forward network or expert. */
  dInner: number;
  /** Default: no experts, only dense feed-forward networks. */
  moe?: MoEOptions | null;
  /** Segments remember this many positions. Default 0: no memory. */
  memLen?: number;
  /** Last positions of a segment that the next one repeats, and that are not remembered. Default 0. */
  extLen?: number;
  /** Let every query see the same number of keys. Needs a memory. Default false. */
  sameLength?: boolean;
  /** Distances beyond this count as this. Default 0: no clamp. */
  clampLen?: number;
  /** Layer norm before each sub-layer instead of after. Default false. */
  preNorm?: boolean;
  /** Default 0. */
  dropout?: number;
  /** On attention probabilities. Default 0. */
  attentionDropout?: number;
  /** Width of token embeddings. Default: dModel. */
  dEmbed?: number;
  /** Vocabulary cutoffs of the adaptive embedding and softmax. Default: none. */
  cutoffs?: readonly number[];
  /** Each further cluster's embeddings are narrower by this factor. Default 1. */
  divVal?: number;
  /** The softmax shares the embedding's tables. Default true. */
  tied?: boolean;
  /** Per cluster, whether the softmax shares the embedding's projection too. Default: none does. */
  tieProjections?: readonly boolean[];
}

const optionNames: readonly (keyof TransformerXLOptions)[] = [
  ...([
    "vocabSize",
    "numLayers",
    "dModel",
    "numHeads",
    "dHead",
    "dInner",
    "moe",
    "memLen",
    "extLen",
  ] as const),
  ...(["sameLength", "clampLen", "preNorm", "dropout", "attentionDropout", "dEmbed", "cutoffs"] as const),
  ...(["divVal", "tied", "tieProjections"] as const),
];
const moeOptionNames: readonly (keyof MoEOptions)[] = [
  ...(["numExperts", "topK", "gate", "layers", "hyperSize", "embedDim", "hypernetScope"] as const),
  ...(["freezeHypernet", "freezeEmbedding", "routerSource"] as const),
];

/** What a forward pass gives. Tensors belong to the current scope. */
export interface TransformerXLOutput {
  /** `[qLen, batch, dModel]`, after the last layer. */
  hidden: FloatTensor;
  /** For the next segment; null when nothing is remembered. */
  memory: Memory | null;
  /** One per mixture-of-experts layer. */
  routing: Routing[];
}

/**
 * Transformer-XL language model (Dai et al. 2019), its feed-forward networks replaced by mixtures of experts where
 * asked for.
 *
 * @example
 * const model = new TransformerXL({ vocabSize: 205, numLayers: 4, dModel: 128, numHeads: 4, dInner: 256,
 *   memLen: 64, moe: { numExperts: 16 } });
 * const { loss } = backward(() => model.loss(inputs, targets, null));
 */
export class TransformerXL extends Module {
  /** u, `[numHeads, dHead]`, of all layers. */
  readonly contentBias: Parameter;
  /** v, `[numHeads, dHead]`, of all layers. */
  readonly positionBias: Parameter;
  readonly embedding: AdaptiveEmbedding;
  readonly layers: readonly TransformerXLLayer[];
  /** The routers of {@link moeLayers}, in order; null without experts. */
  readonly routers: Routers | null;
  readonly softmax: AdaptiveLogSoftmax;
  /** Numbers of the layers with experts. */
  readonly moeLayers: readonly number[];
  readonly device: Device;
  /** Where dropout masks come from; `calls` is its whole state. */
  readonly dropoutStream: RandomStream;
  /** All streams that the model draws from, by purpose: what a checkpoint saves. */
  readonly randomStreams: ReadonlyMap<string, RandomStream>;
  /** Positions to remember. May change between calls. */
  memLen: number;
  /** Text to token ids and back, for {@link generate} and {@link score}; null: they take ids only. */
  tokenizer: Tokenizer | null = null;
  readonly extLen: number;
  readonly sameLength: boolean;
  readonly positions: Positions;
  readonly dropout: Dropout;

  /** @throws {ConfigError} naming the option that is unknown, out of range or at odds with another. */
  constructor(options: TransformerXLOptions, init = new Initializer()) {
    super();
    checkOptions(options);
    const { vocabSize, numLayers, dModel, numHeads, dInner, dHead = dModel / numHeads } = options;
    const { moe = null, memLen = 0, extLen = 0, sameLength = false, clampLen = 0, preNorm = false } = options;
    const { dEmbed = dModel, cutoffs = [], divVal = 1, tied = true, tieProjections = [] } = options;
    this.device = init.device;
    this.dropoutStream = init.stream("dropout");
    this.randomStreams = init.streams;
    this.memLen = memLen;
    this.extLen = extLen;
    this.sameLength = sameLength;
    this.dropout = new Dropout(options.dropout ?? 0, this.dropoutStream);
    const attentionDropout = new Dropout(options.attentionDropout ?? 0, this.dropoutStream);

    const vocabulary = { vocabSize, dModel, dEmbed, cutoffs, divVal };
    this.moeLayers = moe ? [...(moe.layers ?? Array(numLayers).keys())].sort((a, b) => a - b) : [];
    this.contentBias = init.normal([numHeads, dHead]);
    this.positionBias = init.normal([numHeads, dHead]);
    this.embedding = new AdaptiveEmbedding(vocabulary, init);
    this.layers = Array.from({ length: numLayers }, (_, layer) => {
      const numExperts = moe && this.moeLayers.includes(layer) ? moe.numExperts : null;
      const sizes = { dModel, numHeads, dHead, dInner, numExperts };
      return new TransformerXLLayer({ ...sizes, preNorm, dropout: this.dropout, attentionDropout }, init);
    });
    this.routers = moe ? new Routers({ ...moe, numLayers: this.moeLayers.length, dModel }, init) : null;
    const embedding = tied ? this.embedding : null;
    this.softmax = new AdaptiveLogSoftmax({ ...vocabulary, embedding, tieProjections }, init);
    this.positions = new Positions({ dModel, clampLen }, init.device);
  }

  /** Experts per token, in every layer; 0 without experts. */
  get topK(): number {
    return this.routers?.topK ?? 0;
  }

  /** Changes the experts per token. Without experts nothing happens. @throws {ConfigError} when out of range. */
  setTopK(topK: number): void {
    if (this.routers) this.routers.topK = topK;
  }

  /** Stops the training of all routers. */
  freezeRouters(): void {
    this.routers?.freeze();
  }

  /**
   * @param ids `[qLen, batch]` i32.
   * @param memory Of the segment before; null at the start of a text.
   */
  forward(ids: IndexTensor, memory: Memory | null = null): TransformerXLOutput {
    const [qLen = 0] = ids.shape;
    const kLen = qLen + (memory?.[0]?.shape[0] ?? 0);
    const relative: RelativePositions = {
      sinusoids: this.dropout.forward(this.positions.forward(kLen)),
      contentBias: this.contentBias.value,
      positionBias: this.positionBias.value,
      // Keys before the window of the last query's memory are hidden from earlier queries too.
      blockedLag: this.sameLength ? qLen - Math.max(0, kLen - this.memLen) : qLen,
    };
    const routers = this.routers?.forward() ?? [];
    const routing: Routing[] = [];
    const next: FloatTensor[] = [];
    let hidden = this.dropout.forward(this.embedding.forward(ids));
    for (const [i, layer] of this.layers.entries()) {
      const past = memory?.[i] ?? null;
      const kept = remember(past, hidden, this.memLen, this.extLen);
      if (kept) next.push(kept);
      const router = routers[this.moeLayers.indexOf(i)] ?? null;
      const input = hidden;
      // Frees a layer's intermediate results as soon as it is done, unless the tape needs them.
      const result = scope(() => layer.forward(input, past, relative, router));
      hidden = result.hidden;
      if (result.routing) routing.push(result.routing);
    }
    return { hidden: this.dropout.forward(hidden), memory: next.length > 0 ? next : null, routing };
  }

  /**
   * The training loss of a segment is `loss + auxLoss`.
   *
   * @param ids `[qLen, batch]` i32.
   * @param targets `[length, batch]` i32: the ids after the last `length` positions.
   * @returns loss: mean negative log-likelihood `[1]`, in nats. nll: that of each position, `[length · batch]`.
   *   auxLoss: the weighted sum of the layers' load-balancing losses `[1]`, null where the gate has none.
   */
  loss(
    ids: IndexTensor,
    targets: IndexTensor,
    memory: Memory | null = null,
  ): TransformerXLOutput & {
    loss: FloatTensor<[1]>;
    nll: FloatTensor<[number]>;
    auxLoss: FloatTensor<[1]> | null;
  } {
    const output = this.forward(ids, memory);
    const [qLen = 0] = ids.shape;
    const [length = 0] = targets.shape;
    const predicted = length === qLen ? output.hidden : rows(output.hidden, qLen - length, qLen);
    const nll = this.softmax.forward(predicted, targets);
    return { ...output, loss: mean(nll), nll, auxLoss: this.#auxLoss(output.routing) };
  }

  /**
   * Scores what comes after a segment.
   *
   * @returns logits `[batch, vocabSize]` of the token after the last position: their softmax is its distribution.
   */
  predict(ids: IndexTensor, memory: Memory | null = null): { logits: FloatTensor; memory: Memory | null } {
    const { hidden, memory: next } = this.forward(ids, memory);
    const [qLen = 0] = ids.shape;
    return { logits: this.softmax.logits(at(hidden, qLen - 1)), memory: next };
  }

  /**
   * Continues a text token by token; the memory carries the past. Leaving the loop stops.
   *
   * @example for await (const { text } of model.generate("The jury", { experts: 4, temperature: 0.7 })) write(text);
   */
  generate(
    prompt: string | ArrayLike<number>,
    options?: GenerateOptions,
  ): AsyncGenerator<GeneratedToken, void, undefined> {
    return generate(this, prompt, options);
  }

  /** Measures how well the model predicts a text: nats per token and bits per character. */
  score(text: string | ArrayLike<number>, options?: ScoreOptions): Promise<Score> {
    return score(this, text, options);
  }

  #auxLoss(routing: readonly Routing[]): FloatTensor<[1]> | null {
    const losses = routing.map(({ balanceLoss }) => balanceLoss).filter((loss) => loss !== null);
    if (losses.length === 0) return null;
    const sum = losses.reduce((total, loss) => add(total, loss));
    return scale(sum, this.routers?.gate.balance.weight ?? 0);
  }
}

function checkOptions(options: TransformerXLOptions): void {
  rejectUnknownKeys(options, optionNames);
  const { numLayers, dModel, numHeads, dInner, dHead = dModel / numHeads, moe } = options;
  const { memLen = 0, extLen = 0, clampLen = 0 } = options;
  for (const [key, value] of Object.entries({ numLayers, dModel, numHeads, dHead, dInner })) {
    checkInteger(key, value, 1);
  }
  for (const [key, value] of Object.entries({ memLen, extLen, clampLen })) checkInteger(key, value, 0);
  if (dModel % 2 !== 0) {
    throw new ConfigError(
      "dModel",
      dModel,
      `"dModel" is ${String(dModel)}`,
      "use an even number: half sines, half cosines",
    );
  }
  if (options.sameLength === true && memLen === 0) {
    throw new ConfigError(
      "sameLength",
      true,
      `"sameLength" without a memory hides every key`,
      "set memLen > 0",
    );
  }
  if (moe) {
    rejectUnknownKeys(moe, moeOptionNames);
    const { layers = [] } = moe;
    for (const layer of layers) checkInteger("moe.layers", layer, 0, numLayers - 1);
    if (new Set(layers).size !== layers.length) {
      throw new ConfigError("moe.layers", layers, "a layer is listed twice", "list each layer once");
    }
  }
}
