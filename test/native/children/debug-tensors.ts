// Uses a tensor after its end; prints the message. The site that HYPERROUTER_DEBUG=tensors names is in makeTensor.
import { openDevice } from "../../../lib/device.js";
import { add } from "../../../lib/ops/elementwise.js";
import { type FloatTensor, zeros } from "../../../lib/tensor.js";

function makeTensor(): FloatTensor {
  return zeros([2, 3], openDevice("cpu", { threads: 1 }));
}

const x = makeTensor();
x.dispose();
x.dispose();
try {
  add(x, x);
} catch (error) {
  const { name, message } = error as Error;
  console.log(`${name}: ${message}`);
}
