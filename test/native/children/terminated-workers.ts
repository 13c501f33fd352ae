// Ten workers are terminated while their queues are full; the main thread computes on. Prints how many.
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { openDevice } from "../../../lib/device.js";
import { matmul } from "../../../lib/ops/gemm.js";
import { tensor } from "../../../lib/tensor.js";

const built = fileURLToPath(new URL("../../../build/Release/hyperrouter.node", import.meta.url));
const addon = process.env["HYPERROUTER_BINDING"] ?? built;

let terminated = 0;
for (let i = 0; i < 10; i++) {
  const worker = new Worker(new URL("busy-worker.mjs", import.meta.url), { workerData: addon, execArgv: [] });
  await new Promise((resolve, reject) => worker.on("message", resolve).on("error", reject));
  if ((await worker.terminate()) === 1) terminated += 1;
}
const x = tensor([1, 2, 3, 4], [2, 2], openDevice("cpu", { threads: 2 }));
console.log(`${terminated} terminated; ${(await matmul(x, x).data()).join(" ")}`);
