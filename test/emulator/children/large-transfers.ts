// The main thread and two workers upload and read large tensors at once; prints what each of them got back.
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { openDevice } from "../../../lib/device.js";
import { tensor } from "../../../lib/tensor.js";

const size = 5_000_003; // 20 MB: in two pieces

function startWorker(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    new Worker(new URL(import.meta.url)).on("message", resolve).on("error", reject);
  });
}

async function transfer(): Promise<string> {
  const values = Float32Array.from({ length: size }, (_, i) => i * 3 - 7);
  const sent = Buffer.from(values.slice().buffer);
  const x = tensor(values, [size], openDevice("cuda"));
  values.fill(0); // the call has copied them
  const read = [await x.data(), x.dataSync()];
  return read.map(({ buffer }) => (sent.equals(Buffer.from(buffer)) ? "same" : "different")).join(" ");
}

if (isMainThread) {
  console.log((await Promise.all([startWorker(), startWorker(), transfer()])).join("\n"));
} else {
  parentPort!.postMessage(await transfer());
}
