// The first copy is refused: that of a download. Prints what it and the next one say. The process must end by itself.
import { openDevice } from "../../../lib/device.js";
import { zeros } from "../../../lib/tensor.js";

setTimeout(() => {
  console.log("the process waits for something");
  process.exit(1);
}, 30_000).unref();

const x = zeros([3], openDevice("cuda"));
console.log(await x.data().catch((error: unknown) => (error as Error).message));
console.log(await x.data());
