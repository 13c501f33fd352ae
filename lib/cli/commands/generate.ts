import { loadModel } from "../../train/model-file.js";
import type { Command } from "../main.js";
import type { Terminal } from "../terminal.js";
import { numberOption, parseUsage, UsageError } from "../usage.js";

const help = `Usage: npm start -- generate <model> [options]

Continues a text with a trained model.

  --prompt <text>      text to continue (default: "The ")
  --max-tokens <n>     tokens to write (default: 400)
  --temperature <t>    0: always the likeliest; 1: as the model says (default: 0.7)
  --top-k <n>          experts per token (default: the model's)
  --seed <n>           same seed, same text (default: 0)

Example: npm start -- generate runs/brown/model.safetensors --prompt "The jury said" --seed 3`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      prompt: { type: "string", default: "The " },
      "max-tokens": { type: "string" },
      temperature: { type: "string" },
      "top-k": { type: "string" },
      seed: { type: "string" },
    },
    1,
  );
  const [path] = positionals;
  if (path === undefined)
    throw new UsageError("no model is named", "npm start -- generate runs/brown/model.safetensors");
  const { model } = await loadModel(path);
  const experts = numberOption("top-k", values["top-k"]);
  const options = {
    maxTokens: numberOption("max-tokens", values["max-tokens"]) ?? 400,
    temperature: numberOption("temperature", values.temperature) ?? 0.7,
    seed: numberOption("seed", values.seed) ?? 0,
    ...(experts !== undefined && { experts }),
  };
  let text = values.prompt;
  try {
    for await (const token of model.generate(values.prompt, options)) text += token.text;
  } finally {
    model.dispose();
  }
  terminal.print(text);
}

export const generateCommand: Command = {
  name: "generate",
  summary: "continue a text with a trained model",
  help,
  run,
};
