/** What model files and checkpoints share: the format's names, the settings and the tokenizer. */

import { SafetensorsFile, type SafetensorsSource, writeSafetensors } from "../checkpoint/safetensors.js";
import type { Tokenizer } from "../data/tokenizer.js";
import { CheckpointError } from "../errors.js";

const formats = { model: "hyperrouter-model-1", checkpoint: "hyperrouter-checkpoint-1" };

export type SavedKind = keyof typeof formats;

/** Writes a file atomically, with a checksum. */
export async function writeSaved(
  path: string,
  kind: SavedKind,
  tensors: ReadonlyMap<string, SafetensorsSource>,
  values: { config: unknown; tokenizer: Tokenizer | null; [key: string]: unknown },
): Promise<void> {
  const texts = Object.entries(values).map(([key, value]): [string, string] => [key, JSON.stringify(value)]);
  const metadata = new Map([["format", formats[kind]], ...texts]);
  await writeSafetensors(path, tensors, metadata, { checksum: true });
}

/**
 * Opens a file and compares it with its checksum.
 *
 * @throws {CheckpointError} when it is missing, damaged, or of no expected kind.
 */
export async function openSaved(path: string, ...kinds: SavedKind[]): Promise<SafetensorsFile> {
  const file = await SafetensorsFile.open(path);
  try {
    const format = file.metadata.get("format");
    if (!kinds.some((kind) => formats[kind] === format)) {
      const fix = `pass a ${kinds.join(" or a ")} that training wrote`;
      throw new CheckpointError(path, undefined, `is no hyperrouter ${kinds.join(" or ")}`, fix);
    }
    await file.verify();
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/**
 * A value of the metadata.
 *
 * @param parse Turns JSON into the value; whatever it throws becomes a {@link CheckpointError}.
 */
export function savedValue<T>(
  { path, metadata }: SafetensorsFile,
  key: string,
  parse: (json: unknown) => T,
): T {
  try {
    return parse(JSON.parse(metadata.get(key) ?? "") as unknown);
  } catch (error) {
    const [reason = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    throw new CheckpointError(
      path,
      undefined,
      `its "${key}" cannot be read: ${reason.slice(0, 300)}`,
      "restore the original file, or read it with the version that wrote it",
    );
  }
}
