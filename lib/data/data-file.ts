/** Files that hold data: every failure to read one is an error that names it. */

import { open, type FileHandle } from "node:fs/promises";
import { DataFileError } from "../errors.js";
import { fileErrorReason, readFully } from "../files.js";

const CHANGED_FIX = "restore the file or prepare it again, and do not write to files in use";

export class DataFile {
  private constructor(
    readonly path: string,
    /** Bytes when it was opened. */
    readonly size: number,
    /** Last change when it was opened, in nanoseconds. */
    private readonly changed: bigint,
    private readonly handle: FileHandle,
  ) {}

  /** @throws {DataFileError} if there is no readable file at `path`. */
  static async open(path: string): Promise<DataFile> {
    const handle = await open(path, "r").catch((error: unknown) => {
      throw unreadable(path, error);
    });
    const stats = await handle.stat({ bigint: true });
    if (stats.isFile()) return new DataFile(path, Number(stats.size), stats.mtimeNs, handle);
    await handle.close();
    throw new DataFileError(path, undefined, "is no file", "pass the path of a file");
  }

  /**
   * Fills `target` from `position` on; returns the bytes read, fewer than asked only at the end of the file.
   *
   * @throws {DataFileError} if the file cannot be read, or was written to since it was opened.
   */
  async read(target: Uint8Array, position: number): Promise<number> {
    const read = await readFully(this.handle, target, position).catch((error: unknown) => {
      throw unreadable(this.path, error);
    });
    const { size, mtimeNs } = await this.handle.stat({ bigint: true });
    if (Number(size) === this.size && mtimeNs === this.changed) return read;
    if (Number(size) < this.size) {
      throw new DataFileError(this.path, Number(size), "ends here: it was cut while open", CHANGED_FIX);
    }
    throw new DataFileError(this.path, position, "changed while open, read from here", CHANGED_FIX);
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
