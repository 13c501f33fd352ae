/**
 * A router of your own in a language model: the router matrices of all layers are products of two thin ones, so that
 * they have few parameters and share directions. Trains it on the Brown corpus, with checkpoints, then uses its
 * weights in a second model:
 *
 *     npm run build && node --import ./scripts/typescript.mjs examples/custom-router.ts [steps]
 */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { moe } from "hyperrouter";
import { data, matmul, nn, optim, reshape, train } from "hyperrouter";

const [steps = 200] = process.argv.slice(2).map(Number);

/** W = A · B of rank `rank`, for every layer; one B for all. */
class LowRankRouters extends nn.Module {
  readonly a: nn.Parameter;
  readonly b: nn.Parameter;
  readonly bias: nn.Parameter;

  constructor(
    readonly sizes: moe.RouterSizes,
    rank: number,
    init: nn.Initializer,
  ) {
    super();
    const { numLayers, numExperts, dModel } = sizes;
    this.a = init.normal([numLayers * numExperts, rank], { std: 0.1 });
    this.b = init.normal([rank, dModel], { std: 0.1 });
    this.bias = init.zeros([numLayers, numExperts]);
  }

  /** Ops on parameters are all there is to it: gradients follow by themselves. */
  forward(): moe.RouterWeights {
    const { numLayers, numExperts, dModel } = this.sizes;
    const weight = matmul(this.a.value, this.b.value);
    return { weight: reshape(weight, [numLayers, numExperts, dModel]), bias: this.bias.value };
  }
}

function languageModel(vocabSize: number, rank: number): nn.TransformerXL {
  return new nn.TransformerXL({
    ...{ vocabSize, numLayers: 2, dModel: 64, numHeads: 4, dInner: 128, memLen: 64 },
    moe: {
      numExperts: 8,
      gate: "balance",
      routerSource: (sizes, init) => new LowRankRouters(sizes, rank, init),
    },
  });
}

const corpus = await data.loadCorpus("brown");
const model = languageModel(corpus.tokenizer.vocabSize, 4);
console.log(`routers: ${model.routers?.countParameters() ?? 0} parameters of ${model.countParameters()}`);

// Biases and gains are not decayed: two groups of parameters.
const matrices = model.parameters().filter(({ shape }) => shape.length > 1);
const others = model.parameters().filter(({ shape }) => shape.length === 1);
const folder = await mkdtemp(join(tmpdir(), "custom-router-"));
const trainer = new train.Trainer({
  model,
  optimizer: new optim.AdamW([{ parameters: matrices }, { parameters: others, weightDecay: 0 }]),
  batches: new data.LmBatches(corpus.train, { batchSize: 8, seqLen: 64 }),
  lr: optim.cosineLr({ lr: 2e-3, warmupSteps: Math.min(20, steps - 1), maxSteps: steps }),
  validation: { source: corpus.valid, every: Math.ceil(steps / 4), maxBatches: 4, patience: 3 },
  checkpoints: { folder },
});
for await (const event of trainer.run({ steps })) {
  if (event.type === "evaluation") {
    const { step, base, dense } = event;
    console.log(`step ${step}: valid bpc ${base.bpc.toFixed(3)}, with all experts ${dense.bpc.toFixed(3)}`);
  } else if (event.type === "end") {
    console.log(`end after ${event.step} steps: ${event.reason}`);
  }
}

// Fine-tuning: another model takes over what fits of the best checkpoint, here all but the routers, which are wider.
const best = (await new train.CheckpointFolder(folder).best()) ?? "";
const wider = languageModel(corpus.tokenizer.vocabSize, 6);
const { loaded, mismatched } = await train.loadWeights(wider, best, { partial: true });
console.log(`loaded ${loaded.length} tensors; not ${mismatched.map(({ name }) => name).join(", ")}`);
wider.embedding.freeze();
console.log(`${wider.countParameters("trainable")} of ${wider.countParameters()} parameters left to train`);
