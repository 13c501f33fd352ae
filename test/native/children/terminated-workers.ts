// Ten workers are terminated while their queues are full; the main thread computes on. Prints how many.
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { openDevice } from "../../../lib/device.js";
import { matmul } from "../../../lib/ops/gemm.js";
import { sum } from "../../../lib/ops/reduce.js";
import { zeros } from "../../../lib/tensor.js";

const device = openDevice("cpu", { threads: 2 });
const x = zeros([96, 96], device);

/** Queues work and reads that nobody will wait for. */
function fillQueue(): void {
  for (let i = 0; i < 400; i++) {
    const y = matmul(x, x);
    if (i % 10 === 0) y.data().catch(() => undefined);
    if (i % 3 === 0) y.dispose();
  }
}

if (isMainThread) {
  let terminated = 0;
  for (let i = 0; i < 10; i++) {
    const worker = new Worker(new URL(import.meta.url));
    await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
    if ((await worker.terminate()) === 1) terminated += 1;
  }
  const total = await sum(matmul(x, x)).item();
  console.log(`${terminated} terminated, sum ${total}`);
} else {
  fillQueue();
  parentPort!.postMessage("queued");
  fillQueue();
}
