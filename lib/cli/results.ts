import { gzipSync } from "node:zlib";

import { type Evaluation, sweepTopK } from "../train/evaluate.js";
import { evaluationOptions } from "../train/run.js";
import { defaultPrompt } from "./prompt.js";
import { allTopKs, printRouting, printSweep, unitOf } from "./report.js";
import type { Session } from "./training.js";
import { commandLine } from "./usage.js";

/** Longest test text that gzip is tried on. */
const mostGzipTokens = 2 ** 24;

/** Measures and shows what a model has learned. */
export async function reportResults(
  session: Session,
  routingBefore: Evaluation,
  routingAfter: Evaluation,
): Promise<void> {
  const { run, terminal } = session;
  terminal.heading("Test text, for each number of experts per token");
  const sweep = await measure(session);
  printSweep(terminal, sweep, run.corpus.tokens);
  await printGzip(session, Math.min(...sweep.map(({ bpc }) => bpc)));
  if (run.model.routers) {
    terminal.heading("Routers");
    printRouting(terminal, routingBefore, routingAfter);
  }
  terminal.heading("Sample");
  await printSample(session);
  terminal.heading("Next");
  printNext(session);
}

async function measure({ run, signal, record }: Session): Promise<Evaluation[]> {
  const { model, corpus, config, optimizer } = run;
  const sweep = await sweepTopK(model, corpus.test, allTopKs(model), {
    ...evaluationOptions(config),
    signal,
  });
  for (const result of sweep) await record((metrics) => metrics.test(optimizer.updates, result));
  return sweep;
}

/** What `gzip -9` needs for the same text. */
async function printGzip({ run: { corpus }, terminal }: Session, bpc: number): Promise<void> {
  if (corpus.test.length > mostGzipTokens) return;
  const text = corpus.tokenizer.decode(await corpus.test.read(0, corpus.test.length));
  const bits = (8 * gzipSync(text, { level: 9 }).length) / corpus.test.length;
  const verdict = bpc < bits ? terminal.green("the model wins") : "gzip wins";
  terminal.print(
    `  gzip -9 on the same text: ${bits.toFixed(4)} bits per ${unitOf(corpus.tokens)}; ${verdict} (${bpc.toFixed(4)})`,
  );
}

async function printSample({ run: { model, corpus, config }, terminal, signal }: Session): Promise<void> {
  const prompt = defaultPrompt(corpus.tokenizer);
  let text = prompt;
  const options = { maxTokens: 400, temperature: 0.7, seed: config.seed, signal };
  for await (const token of model.generate(prompt, options)) text += token.text;
  for (const line of text.split("\n")) terminal.print(`  ${line}`);
}

function printNext({ run, folder: { path }, terminal }: Session): void {
  const isUnfinished = run.optimizer.updates < run.config.train.steps;
  const prompt = run.corpus.name === "brown" ? ["--prompt", "The jury said"] : [];
  terminal.pairs([
    ...(isUnfinished ? [["go on training", commandLine("resume", path)] as const] : []),
    ["evaluate", commandLine("evaluate", path)],
    ["generate", commandLine("generate", path, ...prompt)],
    ["options", commandLine("train", "--help")],
  ]);
}
