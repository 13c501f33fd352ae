import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import type { PeerKind } from "./peer-kind.js";
import { Peer } from "./peer.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = "bench/peers/tfjs";

/** TensorFlow.js with its WebAssembly backend, which has one thread in Node. */
export const tfjs: PeerKind = {
  name: "tfjs-wasm",
  install: `npm ci --prefix ${folder}`,

  async start() {
    if (!existsSync(`${root}${folder}/node_modules/@tensorflow/tfjs-backend-wasm`)) return [];
    const args = ["--import", `${root}scripts/typescript.mjs`, `${root}${folder}/peer.mjs`];
    return [await Peer.start({ command: process.execPath, args, env: {} })];
  },

  describe({ description }) {
    const { version, simd, threads } = description;
    return `${String(version)}, SIMD ${String(simd)}, threads ${String(threads)}`;
  },
};
