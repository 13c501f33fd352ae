import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import type { Corpus } from "../../data/corpora.js";
import { openDevice } from "../../device.js";
import type { TransformerXL } from "../../nn/transformer-xl.js";
import { assign, flatConfig, parseConfig, type RunConfig } from "../../train/config.js";
import { doublingTopKs, sweepTopK } from "../../train/evaluate.js";
import { saveModel } from "../../train/model-file.js";
import { evaluationOptions, openRun, type Run } from "../../train/run.js";
import { ConfigError } from "../../errors.js";
import type { Command } from "../main.js";
import { Progress } from "../progress.js";
import { printRouting, printSweep } from "../report.js";
import { count, duration, type Terminal } from "../terminal.js";
import { parseUsage } from "../usage.js";

const help = `Usage: npm start -- train [options]

Trains a language model and reports how well it predicts text it has not seen. Without options: a HyperRouter
Transformer-XL on the Brown corpus, at most three minutes on two cores.

  --config <file>     settings as JSON
  --set <key=value>   one setting; may be repeated
  --out <folder>      where to write the model (default: runs/<corpus>)
  --settings          print every setting with its value and stop

Example: npm start -- train --set train.steps=200 --set model.gate=smoe`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values } = parseUsage(
    args,
    {
      config: { type: "string" },
      set: { type: "string", multiple: true, default: [] },
      out: { type: "string" },
      settings: { type: "boolean", default: false },
    },
    0,
  );
  const config = await readConfig(values.config, values.set);
  if (values.settings) {
    terminal.pairs(settingRows(config));
    return;
  }
  const folder = values.out ?? join("runs", config.data.corpus);
  await mkdir(folder, { recursive: true });
  const training = await openRun(config);
  try {
    await trainAndReport(training, join(folder, "model.safetensors"), terminal);
  } finally {
    await training.close();
  }
}

async function readConfig(file: string | undefined, assignments: readonly string[]): Promise<RunConfig> {
  let input: Record<string, unknown> = {};
  if (file !== undefined) {
    try {
      input = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ConfigError(
        "config",
        file,
        `cannot read ${file}: ${reason}`,
        "pass a JSON file with settings",
      );
    }
  }
  for (const assignment of assignments) assign(input, assignment);
  return parseConfig(input);
}

function settingRows(config: RunConfig): [string, string][] {
  return flatConfig(config).map(([key, value]) => [
    key,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}

async function trainAndReport(training: Run, modelPath: string, terminal: Terminal): Promise<void> {
  const { config, corpus, model } = training;
  printSetup(training, terminal);
  const atStart = await training.evaluate(corpus.valid, { maxBatches: 4 });

  terminal.heading("Training");
  const { seconds, tokens, steps, interrupted } = await train(training, terminal);
  terminal.print(
    `  ${count(tokens)} tokens in ${String(steps)} steps and ${duration(seconds)}: ${count(tokens / seconds)} tokens/s`,
  );
  await saveModel(modelPath, { model, config, tokenizer: corpus.tokenizer });

  terminal.heading("Test text, for each number of experts per token");
  const sweep = await sweepTopK(
    model,
    corpus.test,
    doublingTopKs(config.model.numExperts),
    evaluationOptions(config),
  );
  printSweep(terminal, sweep);
  await printGzip(corpus, Math.min(...sweep.map(({ bpc }) => bpc)), terminal);

  terminal.heading("Routers");
  printRouting(terminal, atStart, await training.evaluate(corpus.valid, { maxBatches: 4 }));

  terminal.heading("Sample");
  await printSample(model, config.seed, terminal);

  terminal.heading("Next");
  terminal.pairs([
    ["evaluate", `npm start -- evaluate ${modelPath}`],
    ["generate", `npm start -- generate ${modelPath} --prompt "The jury said"`],
    ["options", "npm start -- train --help"],
  ]);
  if (interrupted) process.exitCode = 130;
}

function printSetup({ config, corpus, model }: Run, terminal: Terminal): void {
  const device = openDevice(config.device);
  terminal.heading("Settings");
  terminal.pairs(settingRows(config));
  terminal.heading("Data and model");
  const trainable = model.countParameters("trainable");
  terminal.pairs([
    ["device", `${device.name} (${device.description})`],
    ["vocabulary", count(corpus.tokenizer.vocabSize)],
    [
      "tokens",
      `train ${count(corpus.train.length)}, valid ${count(corpus.valid.length)}, test ${count(corpus.test.length)}`,
    ],
    ["parameters", `${count(model.countParameters())} in all, ${count(trainable)} trainable`],
    [
      "of the routers",
      `${count(model.routers?.countParameters() ?? 0)} in all, ${count(model.routers?.countParameters("trainable") ?? 0)} trainable`,
    ],
  ]);
}

interface TrainingTotals {
  seconds: number;
  tokens: number;
  steps: number;
  interrupted: boolean;
}

/** Trains until the steps or the minutes are used up, or Ctrl-C. */
async function train(training: Run, terminal: Terminal): Promise<TrainingTotals> {
  const { steps, maxMinutes } = training.config.train;
  const progress = new Progress(terminal, steps, (maxMinutes ?? Infinity) * 60);
  const stop = new AbortController();
  let interrupted = false;
  const onInterrupt = (): void => {
    if (interrupted) process.exit(130);
    interrupted = true;
    stop.abort();
  };
  process.on("SIGINT", onInterrupt);
  try {
    for await (const event of training.train({ signal: stop.signal })) {
      if (event.type === "step") progress.update(event);
    }
  } finally {
    process.off("SIGINT", onInterrupt);
    terminal.clearStatus();
  }
  return { ...progress.totals(), steps: training.optimizer.updates, interrupted };
}

/** What `gzip -9` needs for the same text. */
async function printGzip(corpus: Corpus, bpc: number, terminal: Terminal): Promise<void> {
  const text = corpus.tokenizer.decode(await corpus.test.read(0, corpus.test.length));
  const bits = (8 * gzipSync(text, { level: 9 }).length) / corpus.test.length;
  const verdict = bpc < bits ? terminal.green("the model wins") : "gzip wins";
  terminal.print(
    `  gzip -9 on the same text: ${bits.toFixed(4)} bits per character; ${verdict} (${bpc.toFixed(4)})`,
  );
}

async function printSample(model: TransformerXL, seed: number, terminal: Terminal): Promise<void> {
  const prompt = "The ";
  let text = prompt;
  for await (const token of model.generate(prompt, { maxTokens: 400, temperature: 0.7, seed }))
    text += token.text;
  for (const line of text.split("\n")) terminal.print(`  ${line}`);
}

export const trainCommand: Command = { name: "train", summary: "train a model and report on it", help, run };
