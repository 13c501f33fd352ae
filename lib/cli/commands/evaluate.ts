import { loadCorpus } from "../../data/corpora.js";
import { doublingTopKs, sweepTopK } from "../../train/evaluate.js";
import { loadModel } from "../../train/model-file.js";
import { evaluationOptions } from "../../train/run.js";
import type { Command } from "../main.js";
import { printSweep } from "../report.js";
import type { Terminal } from "../terminal.js";
import { numberOption, parseUsage, UsageError } from "../usage.js";

const help = `Usage: npm start -- evaluate <model> [options]

Measures a trained model on the test part of its corpus, for k = 1, 2, 4, ... experts per token.

  --top-k <n>   only this number of experts per token
  --json        print the results as JSON

Example: npm start -- evaluate runs/brown/model.safetensors --top-k 4`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    { "top-k": { type: "string" }, json: { type: "boolean", default: false } },
    1,
  );
  const [path] = positionals;
  if (path === undefined)
    throw new UsageError("no model is named", "npm start -- evaluate runs/brown/model.safetensors");
  const { model, config } = await loadModel(path);
  const { corpus: name, path: textPath, tokens } = config.data;
  const corpus = await loadCorpus(name, {
    ...(textPath !== null && { path: textPath }),
    ...(tokens !== null && { tokens }),
  });
  try {
    const topK = numberOption("top-k", values["top-k"]);
    const topKs = topK === undefined ? doublingTopKs(config.model.numExperts) : [topK];
    const results = await sweepTopK(model, corpus.test, topKs, evaluationOptions(config));
    if (values.json) terminal.print(JSON.stringify(results));
    else printSweep(terminal, results);
  } finally {
    model.dispose();
    await corpus.close();
  }
}

export const evaluateCommand: Command = { name: "evaluate", summary: "measure a trained model", help, run };
