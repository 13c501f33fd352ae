// Loads the addon alone and fills its queue with ops and reads that nobody waits for.
// Plain JavaScript: ten workers that compile TypeScript would take longer than the test itself.
import { createRequire } from "node:module";
import { parentPort, workerData } from "node:worker_threads";

const addon = createRequire(import.meta.url)(workerData);
const device = addon.openDevice("cpu", "", 2, 0, false, "f32");
const zeros = () => {
  const handle = addon.createTensor(device, "f32", [96, 96]);
  addon.ops.fill(handle, 0);
  return handle;
};
const x = zeros();

function fillQueue() {
  for (let i = 0; i < 400; i++) {
    const y = zeros();
    addon.ops.gemm(x, x, null, y, false, false, "none", false);
    if (i % 10 === 0) addon.download(y).catch(() => undefined);
    if (i % 3 === 0) addon.releaseTensor(y);
  }
}

fillQueue();
parentPort.postMessage("queued");
fillQueue();
