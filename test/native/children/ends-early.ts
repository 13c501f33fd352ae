// Ends while ops and reads are queued: `exit` calls process.exit(7), `return` just returns, `throw` throws.
import { openDevice } from "../../../lib/device.js";
import { matmul } from "../../../lib/ops/gemm.js";
import { zeros } from "../../../lib/tensor.js";

const [how] = process.argv.slice(2);
const device = openDevice("cpu", { threads: 2 });
const x = zeros([128, 128], device);
for (let i = 0; i < 1000; i++) {
  const y = matmul(x, x);
  // Where the process just returns, what was promised is still delivered.
  if (i % 100 === 0) void y.data().then(() => how === "return" && process.stdout.write("."));
}
if (how === "exit") process.exit(7);
if (how === "throw") throw new Error("thrown while ops are queued");
