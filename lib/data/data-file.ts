/** Files that hold data: every failure to read one is an error that names it. */

import { open, type FileHandle } from "node:fs/promises";
import { DataFileError } from "../errors.js";
import { fileErrorReason, readFully } from "../files.js";

export class DataFile {
  private constructor(
    readonly path: string,
    /** Bytes when it was opened. */
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /** @throws {DataFileError} if there is no readable file at `path`. */
  static async open(path: string): Promise<DataFile> {
    const handle = await open(path, "r").catch((error: unknown) => {
      throw unreadable(path, error);
    });
    const stats = await handle.stat();
    if (stats.isFile()) return new DataFile(path, stats.size, handle);
    await handle.close();
    throw new DataFileError(path, undefined, "is no file", "pass the path of a file");
  }

  /** Fills `target` from `position` on; returns the bytes read, fewer than asked only at the end of the file. */
  async read(target: Uint8Array, position: number): Promise<number> {
    return readFully(this.handle, target, position).catch((error: unknown) => {
      throw unreadable(this.path, error);
    });
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** The error for a data file or folder that cannot be read. */
export function unreadable(path: string, error: unknown): DataFileError {
  const reason = `cannot be read: ${fileErrorReason(error) ?? String(error)}`;
  return new DataFileError(path, undefined, reason, "check the path and its permissions");
}
