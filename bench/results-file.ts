import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";

import { writeAtomically } from "../lib/files.js";

/** Writes results so that `file` holds either the old or the new ones, whatever ends this program. */
export async function writeResults(file: string, results: unknown): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeAtomically(file, (handle) => handle.writeFile(`${JSON.stringify(results)}\n`));
}
