import { basename, extname, join } from "node:path";

import { assign, flatConfig, parseConfig, type RunConfig } from "../train/config.js";
import { presetNames, presets } from "../train/presets.js";
import { readJsonObject, RunFolder } from "../train/run-folder.js";
import { choiceOption } from "./usage.js";

/** The settings of a preset or a JSON file, with changes: `key=value` each. */
export async function readSettings(source: string, changes: readonly string[]): Promise<RunConfig> {
  const isFile = extname(source) === ".json";
  const input = isFile
    ? await readJsonObject(source, "pass a JSON file with settings, such as the config.json of a run")
    : structuredClone(presets[choiceOption("the preset", source, presetNames)].config);
  return changed(input, changes);
}

/** Settings with changes: `key=value` each. */
export function changed(settings: object, changes: readonly string[]): RunConfig {
  const input = structuredClone(settings) as Record<string, unknown>;
  for (const change of changes) assign(input, change);
  return parseConfig(input);
}

/** Every key with its value, for people. */
export function settingRows(config: RunConfig): [key: string, value: string][] {
  return flatConfig(config).map(([key, value]) => [
    key,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
}

/** A folder for a new run of these settings: `runs/brown`, or `runs/brown-2` and so on when there was one. */
export async function newRunPath(source: string): Promise<string> {
  const name = join("runs", basename(source, ".json"));
  for (let number = 1; ; number += 1) {
    const path = number === 1 ? name : `${name}-${String(number)}`;
    if (!(await RunFolder.exists(path))) return path;
  }
}
