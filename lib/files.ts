/** Positioned reads and crash-safe writes: what token files and checkpoints share. */

import { randomBytes } from "node:crypto";
import { open, rename, rm, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";

// One read or write call takes less than 2 GiB on every platform.
const MAX_IO_BYTES = 2 ** 30;

/** Fills `target` from `position` on; returns the bytes read, fewer than asked only at the end of the file. */
export async function readFully(handle: FileHandle, target: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const length = Math.min(target.length - done, MAX_IO_BYTES);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** Writes all of `bytes` at `position`. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const length = Math.min(bytes.length - done, MAX_IO_BYTES);
    done += (await handle.write(bytes, done, length, position + done)).bytesWritten;
  }
}

/**
 * Writes a file so that `path` holds either its old content or all of the new one, whatever fails:
 * a temporary file beside it, fsync, rename, fsync of the folder. The temporary file is removed when `write` throws.
 */
export async function writeAtomically(
  path: string,
  write: (handle: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  const handle = await open(temporary, "wx");
  try {
    try {
      await write(handle);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

async function syncFolder(path: string): Promise<void> {
  if (process.platform === "win32") return; // folders cannot be opened there
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const REASONS: Record<string, string> = {
  ENOENT: "no such file or folder",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  EISDIR: "is a folder, expected a file",
  ENOTDIR: "part of the path is a file, not a folder",
  ENOSPC: "no space left on the device",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file grew beyond the largest size allowed",
  EROFS: "the file system is read-only",
};

/** The reason behind an error of a file call, in plain words; undefined when it is no such error. */
export function fileErrorReason(error: unknown): string | undefined {
  const { code, syscall, message } = (error ?? {}) as Partial<NodeJS.ErrnoException>;
  return code === undefined || syscall === undefined ? undefined : (REASONS[code] ?? message);
}
