// node --import ./scripts/typescript.mjs test/cuda/sanitized-calls.ts --seconds 90 [--json file]: calls every op on the
// GPU, on small tensors, aligned and not. What the results are is tested elsewhere: here compute-sanitizer looks on.
//
// Memory is not poisoned: what a kernel reads before anything has written it is to be found. Cases take turns, the first
// of each op, then the second of each: when the time is up, every op has been called.
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { type Device, openDevice } from "../../lib/device.js";
import { type ProductDType, productDTypes } from "../../lib/dtype.js";
import { loadFamilies, OpCall } from "../support/op-harness.js";

interface Planned {
  call: OpCall;
  device: Device;
  turn: number;
}

/** Families whose kernels differ with the dtype of products. */
const products = ["gemm", "grouped-gemm", "grouped-gemm-backward", "rel-attention"];

async function plan(): Promise<Planned[]> {
  const families = await loadFamilies();
  const ofDType = (dtype: ProductDType): Planned[] => {
    const device = openDevice("cuda:0", { dtype });
    return [...families]
      .filter(([family]) => dtype === "f32" || products.includes(family))
      .flatMap(([, { ops }]) => ops)
      .flatMap((table) => OpCall.all(table).map((call, turn) => ({ call, device, turn })));
  };
  return productDTypes.flatMap(ofDType).sort((a, b) => a.turn - b.turn);
}

function run({ call, device }: Planned): void {
  call.run(device);
  const unaligned = call.place(device, { guarded: true });
  unaligned.call();
  unaligned.release();
  device.synchronize();
}

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "90" }, json: { type: "string" } },
});
const planned = await plan();
const end = performance.now() + 1000 * Number(values.seconds);
const isInTime = (): boolean => performance.now() < end;
let done = 0;
for (; done < planned.length && isInTime(); done += 1) run(planned[done]!);
const ops = new Set(planned.slice(0, done).map(({ call }) => call.table.op)).size;
console.log(`${done} of ${planned.length} cases of ${ops} ops`);
if (values.json !== undefined)
  writeFileSync(values.json, `${JSON.stringify({ done, planned: planned.length, ops })}\n`);
