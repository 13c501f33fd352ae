// Two workers compute at once, each with its own device; prints a digest of each result.
import { createHash } from "node:crypto";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { openDevice } from "../../../lib/device.js";
import { matmul } from "../../../lib/ops/gemm.js";
import { randomNormal } from "../../../lib/ops/random.js";
import { scale } from "../../../lib/ops/elementwise.js";
import type { FloatTensor } from "../../../lib/tensor.js";
import { scope } from "../../../lib/scope.js";

function startWorker(): Promise<unknown> {
  return new Promise((resolve, reject) => {
    new Worker(new URL(import.meta.url)).on("message", resolve).on("error", reject);
  });
}

async function compute(): Promise<string> {
  const device = openDevice("cpu", { threads: 2 });
  let x: FloatTensor = randomNormal([64, 64], 0, 1, { seed: 1, call: 0 }, device);
  for (let i = 0; i < 50; i++) {
    const next = scope(() => scale(matmul(x, x), 1 / 64));
    x.dispose();
    x = next;
  }
  return createHash("sha256")
    .update(await x.data())
    .digest("hex");
}

if (isMainThread) {
  console.log((await Promise.all([startWorker(), startWorker()])).join("\n"));
} else {
  parentPort!.postMessage(await compute());
}
