// Stamps (is an output up to date with its sources?) and a lock (one build at a time).
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { CommandError, root } from "./command.mjs";

/** All files below `paths` (files or folders relative to the root) but installed packages, sorted. Missing paths count as empty. */
export function listFiles(...paths) {
  return paths
    .flatMap((path) => {
      const absolute = join(root, path);
      const stats = statSync(absolute, { throwIfNoEntry: false });
      if (!stats) return [];
      if (!stats.isDirectory()) return [absolute];
      const entries = readdirSync(absolute, { recursive: true, withFileTypes: true });
      return entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
        .filter((file) => !file.includes(`${sep}node_modules${sep}`));
    })
    .sort();
}

/** A hash of names and contents of the files below `paths`, and of `extra`. */
export function hashFiles(paths, extra = "") {
  const hash = createHash("sha256").update(extra);
  for (const file of listFiles(...paths))
    hash.update(`\0${relative(root, file)}\0`).update(readFileSync(file));
  return hash.digest("hex");
}

export function readStamp(file) {
  return statSync(file, { throwIfNoEntry: false }) ? readFileSync(file, "utf8") : "";
}

export function writeStamp(file, content) {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}

const lockFile = join(root, "build", "lock");
const maxWaitMs = 20 * 60 * 1000;

/** Runs `action` while no other process of this checkout builds. A lock left by a dead process is taken over. */
export function withLock(action) {
  mkdirSync(dirname(lockFile), { recursive: true });
  for (let waited = 0; !tryLock(); waited += 200) {
    if (waited === 0) console.log("Waiting for another build of this checkout to finish ...");
    if (waited >= maxWaitMs)
      throw new CommandError(`Another build holds ${lockFile}; end it or delete that file.`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
  try {
    return action();
  } finally {
    rmSync(lockFile, { force: true });
  }
}

function tryLock() {
  try {
    writeFileSync(lockFile, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    const owner = Number(readStamp(lockFile));
    if (owner > 0 && !isAlive(owner)) rmSync(lockFile, { force: true });
    return false;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}
