// Does what docs/guide says, page by page in one folder, as a reader would: writes the named blocks to files, runs the
// commands, and finds each line of output that a page shows, whatever its numbers.
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { afterAll, beforeAll, expect, test } from "@jest/globals";

import { root, startProgram } from "./support/command.js";

const pages = ["train", "resume", "evaluate", "generate", "modules"];
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "hyperrouter-"));
  await mkdir(join(folder, "node_modules"));
  await symlink(root, join(folder, "node_modules", "hyperrouter"));
});

afterAll(() => rm(folder, { recursive: true }));

interface Block {
  language: string;
  /** Of the file that the block is. */
  file: string;
  text: string;
}

async function blocksOf(page: string): Promise<Block[]> {
  const markdown = await readFile(join(root, "docs", "guide", `${page}.md`), "utf8");
  return [...markdown.matchAll(/^```(\w+) ?(.*)\n([^]*?)^```$/gm)].map(
    ([, language = "", file = "", text = ""]) => ({ language, file, text }),
  );
}

/** Runs a command of a page. @returns how it ended and what it printed; `interrupt` presses Ctrl-C at the first step. */
async function runShell(command: string, { interrupt }: { interrupt: boolean }) {
  const typescript = pathToFileURL(join(root, "scripts", "typescript.mjs")).href;
  const script = command
    .replace(/^npx hyperrouter/, `node "${join(root, "dist", "cli", "main.js")}"`)
    .replace(/^node (?=\w+\.ts)/, `node --import "${typescript}" `);
  const running = startProgram("sh", ["-c", `exec ${script}`], folder);
  if (interrupt) {
    await running.printed(/tok\/s/);
    running.child.kill("SIGINT");
  }
  const { status, stdout, stderr } = await running.ended;
  return { status, output: `${stdout}\n${stderr}` };
}

/** Matches a line like this one with other numbers, other spaces, and anything for "…". */
function likeLine(line: string): RegExp {
  const pattern = line
    .trim()
    .replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")
    .replace(/\d(?:[\d,:]|\\\.)*/g, "\\d[\\d.,:]*")
    .replace(/\s+/g, "\\s+")
    .replace(/…/g, ".*");
  return new RegExp(`^\\s*${pattern}\\s*$`, "m");
}

test.each(pages)("docs/guide/%s.md does what it says", async (page) => {
  const blocks = await blocksOf(page);
  for (const [i, { language, file, text }] of blocks.entries()) {
    if (file !== "") await writeFile(join(folder, file), text);
    if (language !== "sh") continue;
    const shown = blocks[i + 1];
    expect(shown?.language).toBe("text");
    const lines = shown!.text.split("\n").filter((line) => !["", "^C", "..."].includes(line.trim()));
    const interrupt = shown!.text.includes("^C");
    const { status, output } = await runShell(text.trim(), { interrupt });
    const missing = lines.filter((line) => !likeLine(line).test(output));
    expect({ command: text, status, missing, output }).toMatchObject({
      status: interrupt ? 130 : 0,
      missing: [],
    });
  }
});

test("the index names every page", async () => {
  const index = await readFile(join(root, "docs", "guide", "README.md"), "utf8");
  expect([...index.matchAll(/\]\((\w+)\.md\)/g)].map(([, page]) => page)).toEqual(pages);
});
