import { appendFile, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import type { Evaluation } from "../../lib/train/evaluate.js";
import type { StepEvent, TrainEvent } from "../../lib/train/events.js";
import { type Metrics, MetricsRecorder, type MetricsSink } from "../../lib/train/metrics.js";
import { MetricsFile, readMetrics } from "../../lib/train/metrics-file.js";

const stepEvent = (step: number, overrides: Partial<StepEvent> = {}): StepEvent => ({
  ...{ type: "step", step, loss: step, auxLoss: 0.5, gradNorm: 2 * step, lr: step / 10, topK: 2 + step },
  ...{ tokens: 100, seconds: 0.5, routerEntropy: [1, step] },
  ...overrides,
});
const evaluation = (nats: number, topK: number): Evaluation => ({
  ...{ nats, bpc: nats / Math.LN2, perplexity: Math.exp(nats), tokens: 10, topK },
  ...{ routerEntropy: [1, 2], expertLoad: [[0.25, 0.75]] },
});

class MemorySink implements MetricsSink {
  readonly records: Metrics[] = [];
  async write(metrics: Metrics): Promise<void> {
    this.records.push(metrics);
  }
  async close(): Promise<void> {
    this.records.length = 0;
  }
}

async function record(every: number, events: readonly TrainEvent[]): Promise<Metrics[]> {
  const sinks = [new MemorySink(), new MemorySink()] as const;
  const recorder = new MetricsRecorder(sinks, every);
  for (const event of events) await recorder.event(event);
  expect(sinks[1].records).toEqual(sinks[0].records);
  return sinks[0].records;
}

describe("records", () => {
  test("of training are means over the log interval; the last one may be shorter", async () => {
    const events: TrainEvent[] = [1, 2, 3].map((step) => stepEvent(step));
    const records = await record(2, [...events, { type: "end", step: 3, reason: "steps" }]);
    const time = expect.any(Number) as unknown as number;
    expect(records).toEqual([
      {
        ...{ type: "training", step: 2, time, loss: 1.5, bpc: 1.5 / Math.LN2, auxLoss: 0.5, gradNorm: 3 },
        ...{ lr: 0.2, topK: 4, tokens: 200, tokensPerSecond: 200, routerEntropy: [1, 1.5] },
      },
      {
        ...{ type: "training", step: 3, time, loss: 3, bpc: 3 / Math.LN2, auxLoss: 0.5, gradNorm: 6 },
        ...{ lr: 0.3, topK: 5, tokens: 100, tokensPerSecond: 200, routerEntropy: [1, 3] },
      },
    ]);
    expect(Math.abs(records[0]!.time - Date.now() / 1000)).toBeLessThan(60);
  });

  test("begin anew on multiples of the interval when a run goes on", async () => {
    const records = await record(
      4,
      [7, 8, 9, 10, 11, 12].map((step) => stepEvent(step)),
    );
    expect(records.map(({ step }) => step)).toEqual([8, 12]);
  });

  test("of evaluations hold both numbers of experts", async () => {
    const events: TrainEvent[] = [
      {
        ...{ type: "evaluation", step: 5, base: evaluation(2, 2), dense: evaluation(1.5, 4), isBest: true },
        ...{ isBestDense: false, evaluationsSinceBest: 0, seconds: 3 },
      },
      { type: "checkpoint", step: 5, path: "x", error: null, seconds: 1 },
    ];
    expect(await record(1, events)).toEqual([
      expect.objectContaining({
        ...{ type: "validation", step: 5, nats: 2, bpc: 2 / Math.LN2, denseNats: 1.5, topK: 2, isBest: true },
        ...{ isBestDense: false, routerEntropy: [1, 2], expertLoad: [[0.25, 0.75]], seconds: 3 },
      }),
    ]);
  });

  test("of tests and starts say after which update", async () => {
    const sink = new MemorySink();
    const recorder = new MetricsRecorder([sink], 1);
    await recorder.start(7);
    await recorder.test(7, evaluation(3, 8));
    expect(sink.records).toEqual([
      expect.objectContaining({ type: "start", step: 7 }),
      expect.objectContaining({ type: "test", step: 7, topK: 8, nats: 3 }),
    ]);
    await recorder.close();
    expect(sink.records).toEqual([]);
  });

  test("need a log interval", () => {
    expect(() => new MetricsRecorder([], 0)).toThrow(/"logEvery" is 0/);
  });
});

describe("the file", () => {
  const start = (step: number): Metrics => ({ type: "start", step, time: 1 });
  const loss = (step: number, value: number): Metrics =>
    ({ type: "training", step, time: 2, loss: value }) as Metrics;

  async function write(path: string, records: readonly Metrics[]): Promise<void> {
    const file = await MetricsFile.open(path);
    for (const metrics of records) await file.write(metrics);
    await file.close();
  }

  test("has one JSON record per line, and a resumed run appends", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "metrics.jsonl");
    await write(path, [start(0), loss(10, 3), loss(20, 2), loss(30, 1)]);
    await write(path, [start(20), loss(30, 1.5)]);
    const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as Metrics)).toHaveLength(6);
    expect(await readMetrics(path)).toEqual([
      ...[start(0), loss(10, 3), loss(20, 2)],
      ...[start(20), loss(30, 1.5)],
    ]);
  });

  test("survives a line that a crash has cut", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "metrics.jsonl");
    await writeFile(path, `${JSON.stringify(loss(10, 3))}\n{"type":"trai`);
    expect(await readMetrics(path)).toEqual([loss(10, 3)]);
    await write(path, [start(10)]);
    expect(await readMetrics(path)).toEqual([loss(10, 3), start(10)]);
    await appendFile(path, "null\n");
    expect(await readMetrics(path)).toEqual([loss(10, 3), start(10)]);
  });

  test("that is missing is an error with a fix", async () => {
    await expect(readMetrics("nowhere/metrics.jsonl")).rejects.toThrow(
      /no such file[^]*fix: pass the metrics/,
    );
  });
});

test("docs/runs.md names every key of every record", async () => {
  const text = await readFile(new URL("../../docs/runs.md", import.meta.url), "utf8");
  const sink = new MemorySink();
  const recorder = new MetricsRecorder([sink], 1);
  await recorder.start(0);
  await recorder.event(stepEvent(1));
  await recorder.event({
    ...{ type: "evaluation", step: 1, base: evaluation(2, 2), dense: evaluation(1.5, 4), isBest: true },
    ...{ isBestDense: false, evaluationsSinceBest: 0, seconds: 3 },
  });
  await recorder.test(1, evaluation(3, 8));
  for (const { type, step: _step, time: _time, ...rest } of sink.records) {
    const row = text.split("\n").find((line) => line.startsWith(`| \`${type}\` |`));
    const named = [...(row?.split("|")[3]?.matchAll(/`(\w+)`/g) ?? [])].map(([, key]) => key);
    expect(named.sort()).toEqual(Object.keys(rest).sort());
  }
  expect(sink.records.map(({ type }) => type)).toEqual(["start", "training", "validation", "test"]);
});
