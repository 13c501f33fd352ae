// Runs the programs in docs/ as a reader would.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { expect, test } from "@jest/globals";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Runs the first TypeScript block of a document in the project's root.
 *
 * @param shorten Changes the program before it runs.
 * @returns the lines it prints.
 */
async function runProgramIn(document: string, shorten = (program: string) => program): Promise<string[]> {
  const text = await readFile(join(root, document), "utf8");
  const program = /```ts\n(.*?)```/s.exec(text)?.[1] ?? "";
  const folder = await mkdtemp(join(tmpdir(), "hyperrouter-"));
  try {
    const file = join(folder, "program.ts");
    const library = pathToFileURL(join(root, "lib", "index.ts")).href;
    await writeFile(file, shorten(program).replace('"hyperrouter"', JSON.stringify(library)));
    const flags = ["--import", pathToFileURL(join(root, "scripts", "typescript.mjs")).href];
    const { stdout } = await promisify(execFile)(process.execPath, [...flags, file], { cwd: root });
    return stdout.trim().split("\n");
  } finally {
    await rm(folder, { recursive: true });
  }
}

test("docs/golden-names.md prints each number beside the same reference number", async () => {
  const lines = await runProgramIn("docs/golden-names.md");
  expect(lines).toHaveLength(3);
  for (const line of lines) {
    const [ours, theirs] = line
      .split("reference")
      .map((part) => Number(/-?[\d.]+(e-?\d+)?(?=,?\s*$)/.exec(part)?.[0]));
    expect(Math.abs(ours! - theirs!)).toBeLessThan(1e-12);
  }
});

test("README.md trains: one line a step, from about 8 bits per byte down", async () => {
  const lines = await runProgramIn("README.md", (program) => program.replaceAll("1000", "4"));
  const steps = lines.map((line) => line.split(" ").map(Number));
  expect(steps.map(([step]) => step)).toEqual([1, 2, 3, 4]);
  expect(steps[0]?.[1]).toBeCloseTo(8, 0);
  expect(steps[3]?.[1]).toBeLessThan(steps[0]?.[1] ?? NaN);
});
