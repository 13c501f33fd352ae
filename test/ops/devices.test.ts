import { describe, expect, test } from "@jest/globals";
import {
  bitDifferences,
  changedInputs,
  differences,
  instructionSets,
  loadFamilies,
  OpCall,
  poisoned,
  reference,
} from "../support/op-harness.js";

// Every instruction set of this machine against the reference device. Results may depend neither on the number of
// threads nor on earlier runs nor on where tensors lie, and nothing beside the outputs is written.
for (const [family, { ops }] of await loadFamilies()) {
  describe(family, () => {
    for (const table of ops) {
      test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
        const call = OpCall.of(table, caseName);
        const expected = Object.fromEntries(
          [...call.run(reference())].map(([name, result]) => [name, result.numbers()]),
        );
        for (const isa of instructionSets()) {
          const device = poisoned(isa, 1);
          const run = call.run(device);
          const again = call.run(device);
          const guarded = call.place(poisoned(isa, 3), { guarded: true });
          guarded.call();
          expect({
            isa,
            differences: differences(call, run, expected),
            changedInputs: changedInputs(call, run),
            changedByRunningAgain: bitDifferences(call, run, again),
            changedByThreadsOrAlignment: bitDifferences(call, run, guarded.read()),
            writtenAround: guarded.damagedGuards(),
          }).toEqual({
            isa,
            differences: [],
            changedInputs: [],
            changedByRunningAgain: [],
            changedByThreadsOrAlignment: [],
            writtenAround: [],
          });
          guarded.release();
        }
      });
    }
  });
}
