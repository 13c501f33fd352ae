// The lists in CMakeLists.txt that other builds and checks share.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { CommandError, root } from "./command.mjs";

/** The words of a `set(NAME words...)` line of CMakeLists.txt. */
export function cmakeList(name) {
  const text = readFileSync(join(root, "CMakeLists.txt"), "utf8");
  const match = new RegExp(`^set\\(${name} ([^)]*)\\)`, "m").exec(text);
  if (!match) throw new CommandError(`CMakeLists.txt has no line "set(${name} ...)", which scripts/ read.`);
  return match[1].trim().split(/\s+/);
}
