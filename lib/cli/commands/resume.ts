import { CheckpointError } from "../../errors.js";
import { RunFolder } from "../../train/run-folder.js";
import { changed } from "../settings.js";
import type { Terminal } from "../terminal.js";
import { trainInFolder } from "../training.js";
import { type Command, parseUsage, program, required } from "../usage.js";

const help = `Usage: ${program} resume <run> [options]

Goes on with a training run from its latest checkpoint, bit for bit as if it had never stopped.

  --set <key=value>   changes a setting; may be repeated. Those that make another model or other data are refused;
                      train.steps, train.maxMinutes, device, data.path, evaluation.*, checkpoint.* and log.* are not

Example: ${program} resume runs/brown --set train.steps=2000`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    { set: { type: "string", multiple: true, default: [] } },
    1,
  );
  const path = required("run", positionals[0], "resume runs/brown");
  const { config, checkpoints } = await RunFolder.open(path);
  if ((await checkpoints.latest()) === null) {
    throw new CheckpointError(
      checkpoints.path,
      undefined,
      "holds no checkpoint",
      "begin again in another folder",
    );
  }
  await trainInFolder(new RunFolder(path, changed(config, values.set)), terminal, { resume: true });
}

export const resumeCommand: Command = { name: "resume", summary: "go on with a training run", help, run };
