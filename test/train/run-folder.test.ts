import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, test } from "@jest/globals";

import { CheckpointError, ConfigError, DataFileError } from "../../lib/errors.js";
import { parseConfig } from "../../lib/train/config.js";
import { openRun } from "../../lib/train/run.js";
import { checkpointChoices, RunFolder } from "../../lib/train/run-folder.js";
import { tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const emptyFolder = (): Promise<string> => mkdtemp(join(tmpdir(), "hyperrouter-"));

describe("the folder of a run", () => {
  test("keeps the settings, and no second run", async () => {
    const path = join(await emptyFolder(), "a", "b");
    const config = parseConfig({ train: { steps: 7 } });
    expect(await RunFolder.exists(path)).toBe(false);
    await RunFolder.create(path, config);
    expect(await RunFolder.exists(path)).toBe(true);
    expect((await RunFolder.open(path)).config).toEqual(config);
    await expect(RunFolder.create(path, config)).rejects.toThrow(ConfigError);
    await expect(RunFolder.create(path, config)).rejects.toThrow(/holds a run already[^]*fix: resume it/);
  });

  test("takes other settings", async () => {
    const folder = await RunFolder.create(await emptyFolder(), parseConfig());
    const config = { ...folder.config, seed: 5 };
    await new RunFolder(folder.path, config).save();
    expect((await RunFolder.open(folder.path)).config).toEqual(config);
  });

  test("that is none, or is damaged, is an error with a fix", async () => {
    const path = await emptyFolder();
    await expect(RunFolder.open(path)).rejects.toThrow(DataFileError);
    await expect(RunFolder.open(path)).rejects.toThrow(/no such file[^]*fix: pass the folder of a run/);
    for (const [text, message] of [
      ["{", /config\.json: cannot be read/],
      ["[]", /holds no JSON object/],
      ['{"trian": {}}', /unknown option "trian"/],
    ] as const) {
      await writeFile(join(path, "config.json"), text);
      await expect(RunFolder.open(path)).rejects.toThrow(message);
    }
    await expect(RunFolder.create("/dev/null/x", parseConfig())).rejects.toThrow(/cannot be written/);
  });

  test("finds checkpoints by what they are good for", async () => {
    const config = tinyConfig(await tinyTextFile(), { train: { steps: 4 }, evaluation: { every: 2 } });
    const folder = await RunFolder.create(await emptyFolder(), config);
    await expect(folder.checkpoint()).rejects.toThrow(CheckpointError);
    const run = await openRun(config, { checkpoints: folder.checkpoints.path });
    await run.trainer.train({ steps: 3 });
    const [latest, best, dense] = await Promise.all(
      checkpointChoices.map((choice) => folder.checkpoint(choice)),
    );
    expect([best, dense]).toEqual([folder.checkpoints.pathOf(2), folder.checkpoints.pathOf(2)]);
    expect(latest).toBe(folder.checkpoints.pathOf(3));
    expect(await folder.checkpoint()).toBe(latest);
    await run.close();
  });

  test("without evaluations has only a latest checkpoint", async () => {
    const config = tinyConfig(await tinyTextFile(), { train: { steps: 1 } });
    const folder = await RunFolder.create(await emptyFolder(), config);
    const run = await openRun(config, { checkpoints: folder.checkpoints.path });
    await run.trainer.train({ steps: 1 });
    await run.close();
    expect(await folder.checkpoint()).toBe(folder.checkpoints.pathOf(1));
    await expect(folder.checkpoint("best")).rejects.toThrow(/holds no checkpoint: best/);
  });

  test("gets metrics, for TensorBoard too where asked for", async () => {
    const folder = await RunFolder.create(await emptyFolder(), parseConfig({ log: { tensorboard: true } }));
    const metrics = await folder.openMetrics();
    await metrics.start(0);
    await metrics.close();
    expect(await readFile(folder.metricsPath, "utf8")).toMatch(/^\{"type":"start","step":0,/);
    const names = await readdir(folder.path);
    expect(names.filter((name) => name.startsWith("events.out.tfevents."))).toHaveLength(1);
    const nowhere = new RunFolder("/dev/null/x", parseConfig());
    await expect(nowhere.openMetrics()).rejects.toThrow(/metrics\.jsonl: cannot be written/);
  });
});
