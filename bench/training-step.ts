import type { LmBatch } from "../lib/data/batches.js";
import type { Device } from "../lib/device.js";
import { Initializer } from "../lib/nn/initializer.js";
import { disposeMemory } from "../lib/nn/memory.js";
import { TransformerXL, type TransformerXLOptions } from "../lib/nn/transformer-xl.js";
import { Adam } from "../lib/optim/optimizer.js";
import { type StepContext, trainStep } from "../lib/train/step.js";
import { type HostTensors, parametersOf, type Workload } from "./workload.js";

export interface TrainingSizes {
  model: TransformerXLOptions;
  seqLen: number;
  batchSize: number;
}

const lr = 2.5e-4;
const maxGradNorm = 0.25;
/** Compared step by step, without dropout. */
const comparedSteps = 3;

/** An update of a Transformer-XL with memory: forward, backward, clipping, Adam. */
export class TrainingStep implements Workload {
  readonly name = "training_step";
  readonly metadata: ReadonlyMap<string, string>;
  #training: StepContext | undefined;
  readonly #tokens: Int32Array;

  constructor(
    private readonly device: Device,
    private readonly sizes: TrainingSizes,
  ) {
    const { model, seqLen, batchSize } = sizes;
    const { numHeads, memLen = 0, dropout = 0 } = model;
    const settings = { numHeads, memLen, dropout, lr, maxGradNorm, comparedSteps };
    this.metadata = new Map(Object.entries(settings).map(([key, value]) => [key, String(value)]));
    this.#tokens = Int32Array.from({ length: (seqLen + 1) * batchSize }, (_, i) =>
      Math.floor(model.vocabSize * fraction(i)),
    );
  }

  flops(): null {
    return null;
  }

  async inputs(): Promise<HostTensors> {
    const { seqLen, batchSize } = this.sizes;
    const inputs = await parametersOf(this.#started().model);
    return inputs.set("tokens", { dtype: "I32", shape: [seqLen + 1, batchSize], data: this.#tokens });
  }

  async run(topK: number): Promise<void> {
    await this.#step(this.#started(), topK);
    await this.device.settled();
  }

  /** Losses and gradient norms of the first updates. */
  async results(topK: number): Promise<HostTensors> {
    const context = this.#start(0);
    const losses = new Float32Array(comparedSteps);
    const gradNorms = new Float32Array(comparedSteps);
    for (let step = 0; step < comparedSteps; step += 1) {
      const { loss, gradNorm } = await this.#step(context, topK);
      losses[step] = loss;
      gradNorms[step] = gradNorm;
    }
    dispose(context);
    return new Map([
      ["losses", { dtype: "F32", shape: [comparedSteps], data: losses }],
      ["gradNorms", { dtype: "F32", shape: [comparedSteps], data: gradNorms }],
    ]);
  }

  dispose(): void {
    if (this.#training) dispose(this.#training);
    this.#training = undefined;
  }

  #started(): StepContext {
    return (this.#training ??= this.#start(this.sizes.model.dropout ?? 0));
  }

  /** The same parameters at every call. */
  #start(dropout: number): StepContext {
    const model = new TransformerXL(
      { ...this.sizes.model, dropout },
      new Initializer({ device: this.device }),
    );
    const optimizer = new Adam(model.parameters());
    return { model, optimizer, lr, maxGradNorm, accumulation: 1, memories: [null] };
  }

  async #step(context: StepContext, topK: number): Promise<{ loss: number; gradNorm: number }> {
    const { seqLen, batchSize } = this.sizes;
    const cursor = { epoch: 0, position: 0 };
    const batch: LmBatch = {
      inputs: this.#tokens.subarray(0, seqLen * batchSize),
      targets: this.#tokens.subarray(batchSize),
      length: seqLen,
      inputLength: seqLen,
      batchSize,
      cursor,
      next: cursor,
    };
    context.model.setTopK(topK);
    return trainStep(context, batch);
  }
}

function dispose({ model, optimizer, memories }: StepContext): void {
  memories.forEach(disposeMemory);
  optimizer.dispose();
  model.dispose();
}

/** Numbers in [0, 1) that are spread evenly: Weyl's sequence. */
function fraction(i: number): number {
  return (i * 0.6180339887498949) % 1;
}
