// Leaks tensors, collects garbage, and prints memory statistics. Needs --expose-gc.
import { setTimeout as sleep } from "node:timers/promises";
import { openDevice } from "../../../lib/device.js";
import { zeros } from "../../../lib/tensor.js";

const device = openDevice("cpu", { threads: 1 });
const count = 20;

function leak(): void {
  for (let i = 0; i < count; i++) zeros([1000], device);
}

/** Disposed tensors are no leaks. */
function disposeProperly(): void {
  for (let i = 0; i < count; i++) zeros([1000], device).dispose();
}

disposeProperly();
leak();
const before = device.memoryStats();
for (let i = 0; i < 50 && device.memoryStats().reclaimedByGc < count; i++) {
  globalThis.gc!();
  await sleep(10);
}
const after = device.memoryStats();
console.log(JSON.stringify({ before, after }));
