import { describe, expect, test } from "@jest/globals";
import { changedInputs, differences, loadFamilies, OpCall, reference } from "../support/op-harness.js";

// The reference device against formulas in plain TypeScript that share no code with it.
for (const [family, { ops }] of await loadFamilies()) {
  describe(family, () => {
    for (const table of ops) {
      test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
        const call = OpCall.of(table, caseName);
        const run = call.run(reference());
        expect(differences(call, run, call.expected())).toEqual([]);
        expect(changedInputs(call, run)).toEqual([]);
      });
    }
  });
}
