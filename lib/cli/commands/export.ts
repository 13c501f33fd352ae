import { stat } from "node:fs/promises";

import { saveModel } from "../../train/model-file.js";
import { loadSaved, savedModelHelp, savedModelOptions } from "../saved-model.js";
import { byteSize, type Terminal } from "../terminal.js";
import { type Command, commandLine, parseUsage, program, required } from "../usage.js";

const help = `Usage: ${program} export <run or checkpoint> <file.safetensors> [options]

Writes a model to one safetensors file, without what only training needs.

  --bake                 store the generated routers instead of the hypernetwork: smaller, but trains no further
  --bf16                 store weights in 16 bits, those of the routers in full
${savedModelHelp}

Example: ${program} export runs/brown brown.safetensors --bake`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      ...savedModelOptions,
      bake: { type: "boolean", default: false },
      bf16: { type: "boolean", default: false },
    },
    2,
  );
  const example = "export runs/brown brown.safetensors";
  const path = required("run", positionals[0], example);
  const target = required("file to write", positionals[1], example);
  const saved = await loadSaved(path, values);
  try {
    await saveModel(target, saved, { bake: values.bake, dtype: values.bf16 ? "bf16" : "f32" });
  } finally {
    saved.model.dispose();
  }
  const { size } = await stat(target);
  terminal.pairs([
    ["read", saved.path],
    ["wrote", `${target}, ${byteSize(size)}`],
    ["use it", commandLine("generate", target)],
  ]);
}

export const exportCommand: Command = { name: "export", summary: "write a model file", help, run };
