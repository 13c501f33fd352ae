// The TensorFlow.js side of the benchmark. Speaks as bench/peers/pytorch/peer.py does.
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import * as tf from "@tensorflow/tfjs-core";
import { setWasmPaths, version_wasm } from "@tensorflow/tfjs-backend-wasm";

import { readSafetensors, writeSafetensors } from "../../../lib/checkpoint/safetensors.js";
import { MoEBlock } from "./moe-block.mjs";

let block;

const calls = {
  async load({ file }) {
    block = new MoEBlock((await readSafetensors(file)).tensors);
    return {};
  },
  async results({ topK, file }) {
    const y = block.forward(topK);
    const data = Float32Array.from(y.dataSync());
    await writeSafetensors(file, new Map([["y", { dtype: "F32", shape: y.shape, data }]]));
    y.dispose();
    return {};
  },
  run({ topK }) {
    const start = performance.now();
    const y = block.forward(topK);
    const seconds = (performance.now() - start) / 1000;
    y.dispose();
    return { seconds };
  },
};

const reply = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

setWasmPaths(`${dirname(fileURLToPath(import.meta.resolve("@tensorflow/tfjs-backend-wasm")))}/`);
await tf.setBackend("wasm");
const flags = ["WASM_HAS_SIMD_SUPPORT", "WASM_HAS_MULTITHREAD_SUPPORT"];
const [simd, threads] = await Promise.all(flags.map((flag) => tf.env().getAsync(flag)));
reply({ version: version_wasm, backend: tf.getBackend(), simd, threads });
for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...args } = JSON.parse(line);
  try {
    reply(await calls[call](args));
  } catch (error) {
    reply({ error: String(error) });
  }
}
