// node --import ./scripts/typescript.mjs file.ts: runs TypeScript sources directly.
import { register } from "node:module";

process.setSourceMapsEnabled(true);
register("./typescript-hooks.mjs", import.meta.url);
