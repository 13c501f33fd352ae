import { describe, expect, test } from "@jest/globals";
import { agreement, disagreement, referenceOutputs } from "../support/agreement.js";
import { instructionSets, loadFamilies, OpCall, poisoned, reference } from "../support/op-harness.js";

// Every instruction set of this machine against the reference device. Results may depend neither on the number of
// threads nor on earlier runs nor on where tensors lie, and nothing beside the outputs is written.
for (const [family, { ops }] of await loadFamilies()) {
  describe(family, () => {
    for (const table of ops) {
      test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
        const call = OpCall.of(table, caseName);
        const expected = referenceOutputs(call, reference());
        for (const isa of instructionSets()) {
          const device = poisoned(isa, 1);
          expect(disagreement(call, device, poisoned(isa, 3), expected)).toEqual(agreement(device));
        }
      });
    }
  });
}
