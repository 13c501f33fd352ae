import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { agreement, disagreement, referenceOutputs } from "../support/agreement.js";
import { instructionSets, loadFamilies, OpCall } from "../support/op-harness.js";

const families = await loadFamilies();
const reference = openDevice("reference", { poison: true, dtype: "bf16" });
const products = ["gemm", "grouped-gemm", "grouped-gemm-backward", "rel-attention"].flatMap(
  (family) => families.get(family)!.ops,
);

// A device for bf16 products against plain loops in float64 over operands that are rounded one by one. Softmax
// weights and gradients of scores are computed before they are rounded: no two devices may find them so close to a
// tie, with these inputs, that they round to different sides.
describe.each(instructionSets())("%s with bf16 products", (isa) => {
  const device = openDevice(isa, { poison: true, dtype: "bf16", threads: 1 });
  const equivalent = openDevice(isa, { poison: true, dtype: "bf16", threads: 3 });
  for (const table of products) {
    test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
      const call = OpCall.of(table, caseName);
      const expected = referenceOutputs(call, reference);
      expect(disagreement(call, device, equivalent, expected)).toEqual(agreement(device));
    });
  }
});

test("bf16 products differ from float32 ones", () => {
  const call = OpCall.of(products[0]!, "one task");
  const rounded = call
    .run(openDevice("cpu", { poison: true, dtype: "bf16" }))
    .get("c")!
    .numbers();
  expect(
    call
      .run(openDevice("cpu", { poison: true }))
      .get("c")!
      .numbers(),
  ).not.toEqual(rounded);
});
