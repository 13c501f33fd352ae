import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import { ConfigError } from "../../lib/errors.js";
import { assign, flatConfig, parseConfig, type RunConfig } from "../../lib/train/config.js";
import { readMetrics } from "../../lib/train/metrics-file.js";
import { openRun } from "../../lib/train/run.js";
import { RunFolder } from "../../lib/train/run-folder.js";
import { tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const text = await tinyTextFile(1);
const otherText = await tinyTextFile(2);

/** A rate that makes the validation loss worse, and evaluations that notice. */
const plateau = { train: { lr: 3, lrSchedule: "plateau" }, evaluation: { every: 1, maxBatches: 1 } };

/** Another value for each key, and what else must be set for the key to matter. */
const changes: Record<string, { value: unknown; given?: Partial<Record<string, object>> }> = {
  seed: { value: 7 },
  device: { value: "reference" },
  dtype: { value: "bf16" },
  "data.corpus": { value: "wikitext-2", given: {} },
  "data.path": { value: otherText },
  "data.tokens": { value: "bytes-compact" },
  "data.cacheDir": { value: join(dirname(text), "cache") },
  "model.numLayers": { value: 1 },
  "model.dModel": { value: 24 },
  "model.numHeads": { value: 1 },
  "model.dHead": { value: 4 },
  "model.dInner": { value: 16 },
  "model.numExperts": { value: 5 },
  "model.topK": { value: 3 },
  "model.gate": { value: "smoe" },
  "model.hyperSize": { value: 9 },
  "model.moeLayers": { value: [1] },
  "model.memLen": { value: 3 },
  "model.dropout": { value: 0.3 },
  "model.attentionDropout": { value: 0.3 },
  "model.preNorm": { value: true },
  "model.sameLength": { value: true },
  "model.clampLen": { value: 2 },
  "model.tied": { value: false },
  "train.steps": { value: 3 },
  "train.maxMinutes": { value: 1e-9 },
  "train.batchSize": { value: 3 },
  "train.seqLen": { value: 10 },
  "train.optimizer": { value: "adagrad" },
  "train.lr": { value: 1e-3 },
  "train.lrSchedule": { value: "constant" },
  "train.minLr": { value: 5e-4 },
  "train.warmupSteps": { value: 3 },
  "train.plateauDecay": { value: 0.1, given: plateau },
  "train.plateauPatience": { value: 1, given: plateau },
  "train.weightDecay": { value: 0.5 },
  "train.momentum": { value: 0.5, given: { train: { optimizer: "sgd" } } },
  "train.maxGradNorm": { value: 0.01 },
  "train.accumulation": { value: 2 },
  "train.topKSchedule": { value: "linear_increase" },
  "train.topKMin": { value: 2, given: { train: { topKSchedule: "linear_increase" } } },
  "train.topKMax": { value: 2, given: { train: { topKSchedule: "linear_increase" } } },
  "train.balanceWeight": { value: 0.5 },
  "evaluation.every": { value: 2 },
  "evaluation.patience": { value: 1, given: plateau },
  "evaluation.batchSize": { value: 3 },
  "evaluation.seqLen": { value: 9 },
  "evaluation.maxBatches": { value: 2 },
  "checkpoint.every": { value: 2 },
  "checkpoint.keepLast": { value: 1, given: { checkpoint: { every: 2 } } },
  "log.every": { value: 2 },
  "log.tensorboard": { value: true },
};

/** What a run did and wrote, without what differs each time. */
async function fingerprint(config: RunConfig): Promise<string> {
  const folder = await RunFolder.create(await mkdtemp(join(tmpdir(), "hyperrouter-")), config);
  const run = await openRun(config, { checkpoints: folder.checkpoints.path });
  const metrics = await folder.openMetrics();
  const events = [];
  try {
    for await (const event of run.train()) {
      if (event.type !== "checkpoint") events.push({ ...event, seconds: 0 });
      await metrics.event(event);
    }
    const records = (await readMetrics(folder.metricsPath)).map(({ type, step }) => [type, step]);
    const evaluation = await run.evaluate(run.corpus.test);
    const checkpoints = await folder.checkpoints.steps();
    const files = (await readdir(folder.path)).map((name) => name.replace(/\d.*/, "")).sort();
    const size = run.model.countParameters();
    const { prepared } = run.corpus;
    return JSON.stringify([events, records, evaluation, checkpoints, files, size, prepared !== null]);
  } finally {
    await metrics.close();
    await run.close();
  }
}

/** The tiny settings with one key changed. */
function withChange(key: string): { before: RunConfig; after: RunConfig } {
  const { value, given = {} } = changes[key] ?? { value: undefined };
  const before = tinyConfig(text, given);
  const input = structuredClone(before) as unknown as Record<string, unknown>;
  assign(input, `${key}=${JSON.stringify(value)}`);
  return { before, after: parseConfig(input) };
}

describe("every setting", () => {
  const keys = flatConfig(parseConfig()).map(([key]) => key);

  test("is covered here", () => {
    expect(Object.keys(changes).sort()).toEqual([...keys].sort());
  });

  test("leaves a run alone when it is not changed", async () => {
    expect(await fingerprint(tinyConfig(text))).toBe(await fingerprint(tinyConfig(text)));
  });

  test.each(keys.filter((key) => key !== "data.corpus"))("%s changes the run", async (key) => {
    const { before, after } = withChange(key);
    expect(await fingerprint(after)).not.toBe(await fingerprint(before));
  });

  test("data.corpus changes the run: another corpus wants other files", async () => {
    await expect(fingerprint(withChange("data.corpus").after)).rejects.toThrow(/wiki/);
  });
});

test("the gate `balance` trains with its balance loss, unless the settings say otherwise", async () => {
  const of = (gate: string, balanceWeight: number | null): Promise<string> =>
    fingerprint(tinyConfig(text, { model: { gate }, train: { balanceWeight } }));
  expect(await of("balance", null)).not.toBe(await of("smoe", null));
  expect(await of("balance", null)).toBe(await of("smoe", 0.01));
  expect(await of("balance", 0)).toBe(await of("smoe", 0));
});

test("a schedule of k needs room for its k, but only when there is one", () => {
  expect(() => parseConfig({ model: { numExperts: 4 } })).toThrow(
    /"train\.topKMax" is 8, but there are 4 experts/,
  );
  expect(() => parseConfig({ train: { topKMin: 9 } })).toThrow(/above train\.topKMax/);
  expect(parseConfig({ model: { numExperts: 4 }, train: { topKSchedule: null } }).model.numExperts).toBe(4);
});

describe("a wrong setting", () => {
  const fails = (input: Record<string, unknown>): ConfigError => {
    try {
      parseConfig(input);
    } catch (error) {
      if (error instanceof ConfigError) return error;
      throw error;
    }
    throw new Error("parseConfig accepted it");
  };

  test("that is misspelled is named with what was meant", () => {
    const error = fails({ model: { topk: 2 } });
    expect(error.key).toBe("model.topk");
    expect(error.message).toBe('unknown option "model.topk"\n  fix: did you mean "model.topK"?');
  });

  test.each([
    [{ model: { topK: 99 } }, "model.topK", /there are 16 experts/],
    [{ train: { lr: "fast" } }, "train.lr", /type number/],
    [{ train: { optimizer: "adamm" } }, "train.optimizer", /one of adam, adamw, sgd, adagrad/],
    [{ model: { dropout: 1 } }, "model.dropout", /less than 1/],
    [{ train: { steps: 0 } }, "train.steps", /at least 1/],
    [{ train: { steps: 1.5 } }, "train.steps", /int/],
    [{ model: [] }, "model", /object/],
    [
      { train: { lrSchedule: "plateau" } },
      "train.lrSchedule",
      /nothing is evaluated[^]*set evaluation\.every/,
    ],
    [{ evaluation: { patience: 2 } }, "evaluation.patience", /nothing is evaluated[^]*set evaluation\.every/],
  ])("%j says what is allowed", (input, key, fix) => {
    const error = fails(input);
    expect(error.key).toBe(key);
    expect(error.message).toMatch(fix);
  });

  test("without a value is refused", () => {
    expect(() => {
      assign({}, "train.lr");
    }).toThrow(/key=value/);
  });
});
