// jest transformer for TypeScript in native-ESM mode.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { transpile } from "./transpile.mjs";

const self = readFileSync(new URL("./transpile.mjs", import.meta.url));

export default {
  process: (source, fileName) => ({ code: transpile(source, fileName) }),
  getCacheKey: (source, fileName) =>
    createHash("sha256").update(self).update(fileName).update(source).digest("hex"),
};
