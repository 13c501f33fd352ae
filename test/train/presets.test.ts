import { expect, test } from "@jest/globals";

import { openDevice } from "../../lib/device.js";
import { parseConfig } from "../../lib/train/config.js";
import { type PresetName, presetNames, presets } from "../../lib/train/presets.js";
import { buildModel } from "../../lib/train/run.js";

test.each(presetNames)("%s is a complete set of settings", (name) => {
  const config = parseConfig(presets[name].config);
  expect(presets[name].summary).not.toBe("");
  if (name === "brown")
    expect(config).toEqual({ ...parseConfig(), train: { ...parseConfig().train, maxMinutes: 2.9 } });
  else expect(config.train.maxMinutes).toBeNull();
});

// Parameters of the published models, counted by the published code, at 204 tokens; without its placeholders, and
// with a hypernetwork of width 256 where it was asked for.
test.each<[PresetName, number, number]>([
  ["enwik8", 24_013_132 - 16_448, 19_506_380],
  ["enwik8-smoe", 19_521_804, 19_521_804],
  ["enwik8-dense", 19_489_996, 19_489_996],
])("%s has the published number of parameters", (name, all, trainable) => {
  // Other test files of this process may have left tensors.
  const before = openDevice().memoryStats().liveBytes;
  const model = buildModel(parseConfig(presets[name].config), 204);
  expect([model.countParameters(), model.countParameters("trainable")]).toEqual([all, trainable]);
  model.dispose();
  expect(openDevice().memoryStats().liveBytes).toBeLessThanOrEqual(before);
});

test("published schedules are kept", () => {
  const { model, train, evaluation } = parseConfig(presets["enwik8-large-smoe-dropout"].config);
  expect(train).toMatchObject({
    steps: 50_000,
    batchSize: 44,
    lr: 2.5e-4,
    topKMin: 8,
    topKMax: 16,
    warmupSteps: 0,
  });
  expect(model).toMatchObject({
    numLayers: 18,
    moeLayers: [0, 1, 2, 3],
    gate: "smoe-dropout",
    topK: 2,
    memLen: 512,
  });
  expect(evaluation).toMatchObject({ every: 4000, seqLen: 128, batchSize: 10 });
  expect(parseConfig(presets["enwik8-smoe"].config).train.topKSchedule).toBeNull();
});
