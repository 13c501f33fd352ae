/**
 * Trains a HyperRouter language model on the Brown corpus, byte by byte, and reports how well it predicts text it
 * has not seen. About two minutes on two cores:
 *
 *     npm run build && node --import ./scripts/typescript.mjs examples/char-lm.ts [steps [segments]]
 *
 * `segments` limits how much of the test text is used.
 */
import { gzipSync } from "node:zlib";

import { data, moe, nn, openDevice, optim, train } from "hyperrouter";

const [steps = 700, maxBatches = Infinity] = process.argv.slice(2).map(Number);
const seed = 1111;
const numExperts = 16;

// Data: every byte is a token. A batch is 16 columns of 128 tokens, each column continuing where it stopped.
const corpus = await data.loadCorpus("brown", { tokens: "bytes" });
const batches = new data.LmBatches(corpus.train, { batchSize: 16, seqLen: 128 });

// Model: three layers, each with 16 experts. A frozen hypernetwork turns one trained embedding per layer into that
// layer's router.
const model = new nn.TransformerXL(
  {
    vocabSize: corpus.tokenizer.vocabSize,
    numLayers: 3,
    dModel: 128,
    numHeads: 4,
    dInner: 256,
    memLen: 128,
    moe: { numExperts, topK: 2, gate: "hyper-router", hyperSize: 256 },
  },
  new nn.Initializer({ seed, device: openDevice("cpu") }),
);
model.tokenizer = corpus.tokenizer;
const trainable = model.countParameters("trainable");
console.log(`${model.countParameters()} parameters, ${trainable} of them trainable`);

// Training: Adam, a cosine learning rate with warm-up, and a number of experts per token that grows from 2 to 8.
const trainer = new train.Trainer({
  model,
  optimizer: new optim.Adam(model.parameters()),
  batches,
  lr: optim.cosineLr({ lr: 2e-3, minLr: 1e-4, warmupSteps: Math.min(50, steps - 1), maxSteps: steps }),
  topK: moe.topKSchedule({ mode: "linear_increase", min: 2, max: 8, steps }),
  maxGradNorm: 0.25,
});

const atStart = await train.evaluate(model, corpus.valid, { maxBatches: 4 });
for await (const event of trainer.run({ steps })) {
  if (event.type !== "step") continue;
  const { step, loss, topK, tokens, seconds } = event;
  if (step % Math.ceil(steps / 20) !== 0 && step !== 1) continue;
  const bpc = (loss / Math.LN2).toFixed(3);
  console.log(`step ${step}/${steps}  bpc ${bpc}  k ${topK}  ${Math.round(tokens / seconds)} tokens/s`);
}

// The same model, with fewer or more experts per token than it was trained with.
const results = await train.sweepTopK(model, corpus.test, train.doublingTopKs(numExperts), { maxBatches });
for (const { topK, bpc } of results) console.log(`test, k = ${topK}: ${bpc.toFixed(4)} bits per character`);

const testText = corpus.tokenizer.decode(await corpus.test.read(0, corpus.test.length));
const gzip = (8 * gzipSync(testText, { level: 9 }).length) / corpus.test.length;
console.log(`test, gzip -9: ${gzip.toFixed(4)} bits per character`);

const atEnd = await train.evaluate(model, corpus.valid, { maxBatches: 4 });
atEnd.routerEntropy.forEach((entropy, layer) => {
  const before = atStart.routerEntropy[layer] ?? NaN;
  const load = (atEnd.expertLoad[layer] ?? []).map((share) => `${(100 * share).toFixed(0)} %`).join(" ");
  console.log(
    `layer ${layer}: router entropy ${before.toFixed(3)} -> ${entropy.toFixed(3)} nats, load ${load}`,
  );
});

// A sample, written token by token.
const prompt = "The ";
process.stdout.write(prompt);
for await (const { text } of model.generate(prompt, { maxTokens: 300, temperature: 0.7, seed })) {
  process.stdout.write(text);
}
console.log();
