import { openDevice } from "../device.js";
import { fileErrorReason } from "../files.js";
import type { Evaluation } from "../train/evaluate.js";
import type { EndEvent, TrainEvent } from "../train/events.js";
import type { MetricsRecorder } from "../train/metrics.js";
import { openRun, type Run } from "../train/run.js";
import type { RunFolder } from "../train/run-folder.js";
import { interruptible } from "./interrupt.js";
import { Progress } from "./progress.js";
import { reportResults } from "./results.js";
import { settingRows } from "./settings.js";
import { count, duration, type Terminal } from "./terminal.js";
import { commandLine } from "./usage.js";

/** What is needed while a run trains. */
export interface Session {
  run: Run;
  folder: RunFolder;
  terminal: Terminal;
  /** Aborted by Ctrl-C. */
  signal: AbortSignal;
  /** Writes metrics; when that fails, warns once and stops no training. */
  record: (write: (metrics: MetricsRecorder) => Promise<void>) => Promise<void>;
}

/**
 * Trains in the folder of a run and reports. Ctrl-C leaves a checkpoint to resume from.
 *
 * @param options.resume Go on from the latest checkpoint. The folder's settings are written once they fit it.
 */
export async function trainInFolder(
  folder: RunFolder,
  terminal: Terminal,
  { resume }: { resume: boolean },
): Promise<void> {
  await interruptible(terminal, "Stopping after this step, with a checkpoint", async (signal) => {
    const run = await openRun(folder.config, { checkpoints: folder.checkpoints.path, resume, signal });
    let metrics: MetricsRecorder | undefined;
    try {
      await folder.save();
      terminal.logTo(folder.logPath);
      terminal.log(`${new Date().toISOString()}  ${commandLine(...process.argv.slice(2))}`);
      metrics = await folder.openMetrics();
      await trainAndReport({ run, folder, terminal, signal, record: recorder(metrics, terminal) });
    } finally {
      await metrics?.close();
      await run.close();
    }
  });
}

function recorder(metrics: MetricsRecorder, terminal: Terminal): Session["record"] {
  let failed = false;
  return async (write) => {
    if (failed) return;
    try {
      await write(metrics);
    } catch (error) {
      const reason = fileErrorReason(error);
      if (reason === undefined) throw error;
      failed = true;
      terminal.warn(`warning: the metrics cannot be written any more: ${reason}`);
    }
  };
}

async function trainAndReport(session: Session): Promise<void> {
  const { run, folder, terminal, signal } = session;
  printSetup(session);
  // Four segments are enough to see how the routers route.
  const { topK } = run.config.model;
  const route = (): Promise<Evaluation> => run.evaluate(run.corpus.valid, { topK, maxBatches: 4, signal });
  const routingBefore = await route();
  const end = await train(session);
  if (end.reason !== "aborted") return reportResults(session, routingBefore, await route());
  const checkpoint = await folder.checkpoints.latest();
  terminal.print(`  stopped after step ${String(end.step)}; checkpoint: ${checkpoint ?? "none yet"}`);
  if (checkpoint !== null) terminal.print(`  go on with: ${commandLine("resume", folder.path)}`);
}

function printSetup({ run: { config, corpus, model, optimizer }, folder, terminal }: Session): void {
  const device = openDevice(config.device, { dtype: config.dtype });
  terminal.heading("Settings");
  terminal.pairs(settingRows(config));
  terminal.heading("Data and model");
  const { routers } = model;
  const parameters = (of: { countParameters(which?: "all" | "trainable"): number }): string =>
    `${count(of.countParameters())} in all, ${count(of.countParameters("trainable"))} trainable`;
  terminal.pairs([
    ["folder", folder.path],
    ["device", `${device.name} (${device.description})`],
    ["vocabulary", count(corpus.tokenizer.vocabSize)],
    [
      "tokens",
      `train ${count(corpus.train.length)}, valid ${count(corpus.valid.length)}, test ${count(corpus.test.length)}`,
    ],
    ["parameters", parameters(model)],
    ...(routers ? [["of the routers", parameters(routers)] as const] : []),
    ...(optimizer.updates > 0 ? [["resumed after step", count(optimizer.updates)] as const] : []),
  ]);
}

/** Trains until the steps or the minutes are used up, or Ctrl-C. */
async function train({ run, terminal, signal, record }: Session): Promise<EndEvent> {
  terminal.heading("Training");
  const { steps, maxMinutes } = run.config.train;
  const done = run.optimizer.updates;
  const maxSeconds = 60 * (maxMinutes ?? Infinity);
  const progress = new Progress(terminal, { steps, done, maxSeconds, logEvery: run.config.log.every });
  await record((metrics) => metrics.start(done));
  let end: EndEvent = { type: "end", step: done, reason: "aborted" };
  try {
    for await (const event of run.train({ signal })) {
      await record((metrics) => metrics.event(event));
      show(event, progress, terminal);
      if (event.type === "end") end = event;
    }
  } finally {
    terminal.clearStatus();
  }
  const { seconds, tokens } = progress.totals();
  terminal.print(
    `  ${count(tokens)} tokens in ${String(end.step - done)} steps and ${duration(seconds)}: ${count(tokens / seconds)} tokens/s`,
  );
  return end;
}

function show(event: TrainEvent, progress: Progress, terminal: Terminal): void {
  if (event.type === "step") progress.step(event);
  else if (event.type === "evaluation") progress.evaluation(event);
  else if (event.type === "checkpoint" && event.error) {
    terminal.warn(`warning: ${event.error.message}\n  training goes on; earlier checkpoints are intact`);
  }
}
