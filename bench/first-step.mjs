// A program that trains: imports the package, builds the quickstart's model and updates it once, on random tokens.
// Prints how many milliseconds that took.
const start = performance.now();
const { data, optim, train } = await import("hyperrouter");

const config = train.parseConfig({});
const vocabSize = 128;
const { batchSize, seqLen, lr } = config.train;
const ids = Uint8Array.from({ length: 2 * batchSize * seqLen }, () => Math.floor(vocabSize * Math.random()));
const model = train.buildModel(config, vocabSize);
const trainer = new train.Trainer({
  model,
  optimizer: new optim.Adam(model.parameters()),
  batches: new data.LmBatches(new data.MemoryTokens(ids, vocabSize), { batchSize, seqLen }),
  lr: () => lr,
});
for await (const event of trainer.run({ steps: 1 })) if (event.type === "step") break;
console.log(performance.now() - start);
