import type { Corpus } from "../../data/corpora.js";
import { PARTS } from "../../data/corpus-files.js";
import { ConfigError } from "../../errors.js";
import { sweepTopK } from "../../train/evaluate.js";
import type { SavedModel } from "../../train/model-file.js";
import { evaluationOptions, openCorpus } from "../../train/run.js";
import { interruptible } from "../interrupt.js";
import { allTopKs, printSweep } from "../report.js";
import { loadSaved, savedModelHelp, savedModelOptions } from "../saved-model.js";
import type { Terminal } from "../terminal.js";
import { choiceOption, type Command, given, numberOption, parseUsage, program, required } from "../usage.js";

const help = `Usage: ${program} evaluate <run or model file> [options]

Measures a trained model on its corpus, for k = 1, 2, 4, ... experts per token.

  --experts <k,...>      only these numbers of experts per token
  --part <which>         test, valid or train (default: test)
  --data <path>          where the texts are (default: where they were in training)
  --segments <n>         stop after this many segments
  --json                 print the results as JSON
${savedModelHelp}

Example: ${program} evaluate runs/brown --experts 2,4 --json`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      ...savedModelOptions,
      experts: { type: "string" },
      part: { type: "string", default: "test" },
      data: { type: "string" },
      segments: { type: "string" },
      json: { type: "boolean", default: false },
    },
    1,
  );
  const path = required("run", positionals[0], "evaluate runs/brown");
  const part = choiceOption("--part", values.part, PARTS);
  const topKs = values.experts?.split(",").map((text) => numberOption("experts", text) ?? 0);
  const maxBatches = numberOption("segments", values.segments);
  const saved = await loadSaved(path, values);
  const { model, config } = saved;
  const corpus = await openCorpus({ data: { ...config.data, ...given({ path: values.data }) } });
  try {
    checkTokenizer(saved, corpus);
    const options = { ...evaluationOptions(config), ...given({ maxBatches }) };
    await interruptible(terminal, "Stopping", async (signal) => {
      const results = await sweepTopK(model, corpus[part], topKs ?? allTopKs(model), { ...options, signal });
      if (values.json) terminal.print(JSON.stringify(results));
      else printSweep(terminal, results, corpus.tokens);
    });
  } finally {
    model.dispose();
    await corpus.close();
  }
}

/** Other texts can give another vocabulary, and then ids mean other symbols. */
function checkTokenizer({ tokenizer }: SavedModel, corpus: Corpus): void {
  if (JSON.stringify(tokenizer) === JSON.stringify(corpus.tokenizer)) return;
  throw new ConfigError(
    "data",
    corpus.name,
    "the texts give another vocabulary than the model has",
    "pass the texts it was trained on with --data",
  );
}

export const evaluateCommand: Command = { name: "evaluate", summary: "measure a trained model", help, run };
