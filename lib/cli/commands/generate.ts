import { interruptible } from "../interrupt.js";
import { defaultPrompt } from "../prompt.js";
import { loadSaved, savedModelHelp, savedModelOptions } from "../saved-model.js";
import type { Terminal } from "../terminal.js";
import { type Command, given, numberOption, parseUsage, program, required } from "../usage.js";

const help = `Usage: ${program} generate <run or model file> [options]

Continues a text with a trained model, as it is drawn.

  --prompt <text>        text to continue (default: "The ", where the vocabulary has it)
  --max-tokens <n>       tokens to write (default: 400)
  --temperature <t>      0: always the likeliest; 1: as the model says (default: 0.7)
  --top-tokens <n>       draw among the likeliest n tokens only
  --top-p <p>            draw among the likeliest tokens that together have this probability
  --experts <k>          experts per token (default: the model's)
  --seed <n>             same seed, same text (default: 0)
${savedModelHelp}

Example: ${program} generate runs/brown --prompt "The jury said" --experts 4 --seed 3`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    {
      ...savedModelOptions,
      prompt: { type: "string" },
      "max-tokens": { type: "string", default: "400" },
      temperature: { type: "string", default: "0.7" },
      "top-tokens": { type: "string" },
      "top-p": { type: "string" },
      experts: { type: "string" },
      seed: { type: "string" },
    },
    1,
  );
  const path = required("run", positionals[0], "generate runs/brown");
  const options = given({
    maxTokens: numberOption("max-tokens", values["max-tokens"]),
    temperature: numberOption("temperature", values.temperature),
    topTokens: numberOption("top-tokens", values["top-tokens"]),
    topP: numberOption("top-p", values["top-p"]),
    experts: numberOption("experts", values.experts),
    seed: numberOption("seed", values.seed),
  });
  const { model, tokenizer } = await loadSaved(path, values);
  try {
    await interruptible(terminal, "Stopping", async (signal) => {
      const prompt = values.prompt ?? defaultPrompt(tokenizer);
      const tokens = model.generate(prompt, { ...options, signal });
      // Wrong options are found at the first token.
      const first = await tokens.next();
      terminal.stream(prompt + (first.value?.text ?? ""));
      for await (const { text } of tokens) terminal.stream(text);
      terminal.print();
    });
  } finally {
    model.dispose();
  }
}

export const generateCommand: Command = {
  name: "generate",
  summary: "continue a text with a trained model",
  help,
  run,
};
