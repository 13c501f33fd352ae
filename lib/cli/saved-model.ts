import type { RunConfig } from "../train/config.js";
import { loadModel, type SavedModel } from "../train/model-file.js";
import { checkpointChoices, RunFolder } from "../train/run-folder.js";
import { choiceOption } from "./usage.js";

/** Options of commands that use a trained model. */
export const savedModelOptions = {
  checkpoint: { type: "string" },
  device: { type: "string" },
} as const;

export const savedModelHelp = `  --checkpoint <which>   of a run: latest, best or best-dense (default: latest)
  --device <name>        such as cpu (default: the one it was trained on)`;

/** Loads a model: a checkpoint of a run's folder, or a checkpoint or model file. @returns it and its file. */
export async function loadSaved(
  path: string,
  { checkpoint, device }: { checkpoint?: string | undefined; device?: string | undefined },
): Promise<SavedModel & { config: RunConfig; path: string }> {
  const choice = choiceOption("--checkpoint", checkpoint, checkpointChoices);
  const file = (await RunFolder.exists(path)) ? await (await RunFolder.open(path)).checkpoint(choice) : path;
  return { ...(await loadModel(file, device)), path: file };
}
