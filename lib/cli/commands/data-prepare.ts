import { stat } from "node:fs/promises";

import { corpusNames, type Corpus, loadCorpus } from "../../data/corpora.js";
import { PARTS } from "../../data/corpus-files.js";
import { tokenKinds } from "../../data/fit-tokenizer.js";
import { presetNames } from "../../train/presets.js";
import { interruptible } from "../interrupt.js";
import { byteSize, count, type Terminal } from "../terminal.js";
import {
  choiceOption,
  type Command,
  commandLine,
  given,
  parseUsage,
  program,
  required,
  UsageError,
} from "../usage.js";

const help = `Usage: ${program} data prepare <corpus> <path> [options]

Encodes a corpus into token files that training reads without holding them in memory. Training does so by itself for
texts of more than 64 MiB; files that are there and belong to the texts are used again.

  --tokens <kind>        what a token is: ${tokenKinds.join(", ")} (default: the corpus's usual)
  --cache-dir <folder>   where to write (default: <path>.tokens)

Corpora:
  enwik8, text8            the file, or a folder with it or with {train,valid,test}.txt.raw
  wikitext-2, wikitext-103 a folder with wiki.{train,valid,test}.tokens or {train,valid,test}.txt
  text                     any text file, split 90 / 5 / 5, or a folder with {train,valid,test}.txt
  brown                    needs no preparation

Example: ${program} data prepare enwik8 data/enwik8`;

async function run(args: string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parseUsage(
    args,
    { tokens: { type: "string" }, "cache-dir": { type: "string" } },
    2,
  );
  const example = "data prepare enwik8 data/enwik8";
  const name = choiceOption("the corpus", required("corpus", positionals[0], example), corpusNames);
  if (name === "brown") throw new UsageError("brown needs no preparation", `${program} train brown`);
  const path = required("path", positionals[1], example);
  const tokens = choiceOption("--tokens", values.tokens, tokenKinds);
  const cacheDir = values["cache-dir"] ?? `${path.replace(/[\\/]+$/, "")}.tokens`;
  await interruptible(terminal, "Stopping", async (signal) => {
    const corpus = await loadCorpus(name, { path, cacheDir, signal, ...given({ tokens }) });
    try {
      await printFiles(corpus, terminal);
    } finally {
      await corpus.close();
    }
    const preset = presetNames.find((preset) => preset === name);
    const settings = [
      ...(preset === undefined ? [`data.corpus=${name}`] : []),
      `data.path=${path}`,
      ...(preset === undefined || tokens !== undefined ? [`data.tokens=${corpus.tokens}`] : []),
      ...(values["cache-dir"] === undefined ? [] : [`data.cacheDir=${cacheDir}`]),
    ];
    const sets = settings.flatMap((setting) => ["--set", setting]);
    terminal.pairs([["train", commandLine("train", preset ?? "brown", ...sets)]]);
  });
}

async function printFiles(corpus: Corpus, terminal: Terminal): Promise<void> {
  const { paths, isNew } = corpus.prepared ?? { paths: [], isNew: false };
  terminal.pairs([
    ["corpus", `${corpus.name}, tokens: ${corpus.tokens}`],
    ["vocabulary", count(corpus.tokenizer.vocabSize)],
    ["files", isNew ? "written just now" : "were there already and belong to these texts"],
  ]);
  const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
  terminal.table(
    ["part", "tokens", "bytes", "file"],
    PARTS.map((part, i) => [part, count(corpus[part].length), byteSize(sizes[i] ?? 0), paths[i] ?? ""]),
  );
}

export const dataPrepareCommand: Command = {
  name: "data prepare",
  summary: "encode a corpus into token files",
  help,
  run,
};
