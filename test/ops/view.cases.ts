import { gelu } from "../../lib/ops/activation.js";
import { add, mul } from "../../lib/ops/elementwise.js";
import { matmul } from "../../lib/ops/gemm.js";
import { concatRows, reshape, rows } from "../../lib/ops/view.js";
import { type Family, type GradientCase, normal } from "../support/op-case.js";

// Views are no ops of the addon, but gradients flow through them.
const gradients: GradientCase[] = [
  {
    name: "reshape of an input and of an activation",
    inputs: { x: normal([2, 6]) },
    forward: (t) => reshape(gelu(reshape(t.float("x"), [3, 4])), [12]),
  },
  {
    name: "rows of an input",
    inputs: { x: normal([5, 3]) },
    forward: (t) => gelu(rows(t.float("x"), 1, 3)),
  },
  {
    name: "overlapping rows of an activation, which is used itself too",
    inputs: { x: normal([4, 3]) },
    forward: (t) => {
      const y = gelu(t.float("x"));
      const both = mul(rows(y, 0, 3), rows(y, 1, 4));
      return add(reshape(both, [9]), reshape(rows(y, 0, 3), [9]));
    },
  },
  {
    name: "rows of rows, the last one twice",
    inputs: { x: normal([6, 2]) },
    forward: (t) => {
      const part = rows(gelu(t.float("x")), 2, 6);
      return concatRows([rows(part, 3, 4), part, rows(part, 3, 4)]);
    },
  },
  {
    name: "concatRows of inputs and activations, one of them twice",
    inputs: { a: normal([2, 3]), b: normal([1, 3]) },
    forward: (t) => {
      const y = gelu(t.float("a"));
      const joined = concatRows([y, t.float("b"), y, t.float("a")]);
      return matmul(joined, joined, { transposeB: true });
    },
  },
];

export default { ops: [], gradients } satisfies Family;
