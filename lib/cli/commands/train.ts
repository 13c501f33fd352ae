import { presetNames, presets } from "../../train/presets.js";
import { RunFolder } from "../../train/run-folder.js";
import { newRunPath, readSettings, settingRows } from "../settings.js";
import type { Terminal } from "../terminal.js";
import { trainInFolder } from "../training.js";
import { type Command, commandLine, parseUsage, program, UsageError } from "../usage.js";

const width = Math.max(...presetNames.map((name) => name.length));

const help = `Usage: ${program} train [preset or JSON file] [options]

Trains a language model and reports how well it predicts text it has not seen. Without a preset: brown, a HyperRouter
Transformer-XL on the Brown corpus, at most three minutes on two cores.

  --set <key=value>   one setting; may be repeated
  --out <folder>      folder of the run (default: runs/<preset>, numbered)
  --tensorboard       write event files for TensorBoard; short for --set log.tensorboard=true
  --settings          print every setting with its value and stop

Presets; all but brown need --set data.path=<file or folder>:
${presetNames.map((name) => `  ${name.padEnd(width)}  ${presets[name].summary}`).join("\n")}

The folder holds config.json, metrics.jsonl, log.txt and checkpoints. Ctrl-C finishes the step and writes a checkpoint.

Example: ${program} train brown --set train.steps=200 --set model.gate=smoe`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      set: { type: "string", multiple: true, default: [] },
      out: { type: "string" },
      tensorboard: { type: "boolean", default: false },
      settings: { type: "boolean", default: false },
    },
    1,
  );
  const [source = "brown"] = positionals;
  const changes = values.tensorboard ? [...values.set, "log.tensorboard=true"] : values.set;
  const config = await readSettings(source, changes);
  if (values.settings) {
    terminal.pairs(settingRows(config));
    return;
  }
  const { corpus, path: textPath } = config.data;
  if (corpus !== "brown" && textPath === null) {
    throw new UsageError(`${corpus} needs its texts`, "add --set data.path=<file or folder>");
  }
  const path = values.out ?? (await newRunPath(source));
  if (await RunFolder.exists(path)) {
    const fix = `go on with it: ${commandLine("resume", path)}; or use another folder`;
    throw new UsageError(`--out is "${path}", which holds a run already`, fix);
  }
  await trainInFolder(new RunFolder(path, config), terminal, { resume: false });
}

export const trainCommand: Command = { name: "train", summary: "train a model and report on it", help, run };
