import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import * as errors from "../../lib/errors.js";
import { inPlaceCalls, sameInPlace } from "../support/agreement.js";
import { refuseContent } from "../support/content-refusal.js";
import { genericRefusals, type Refusal } from "../support/generic-refusals.js";
import type { BadCall, OpCases } from "../support/op-case.js";
import {
  differences,
  instructionSets,
  loadFamilies,
  OpCall,
  poisoned,
  reference,
} from "../support/op-harness.js";

const families = await loadFamilies();
const other = openDevice("cpu:plain", { threads: 1 });

/** The first line of defence: the call throws the right class with a cause and a fix, and queues nothing. */
function expectRefusal({ what, call, error, says }: Refusal): void {
  let thrown: unknown;
  try {
    call();
  } catch (caught) {
    thrown = caught;
  }
  const { constructor: thrownClass, message } = (thrown ?? {}) as Error;
  expect({ what, error: thrownClass.name, says: message }).toEqual({
    what,
    error,
    says: expect.stringContaining(says),
  });
  expect(thrown).toBeInstanceOf(errors.HyperRouterError);
  expect(message.split("\n")).toEqual([expect.anything(), expect.stringMatching(/^ {2}fix: .+/)]);
}

/** Each mistake of a table against one device. */
function refusal(table: OpCases, { name, change, error, says }: BadCall): Refusal {
  const placed = OpCall.changed(table, change).place(reference());
  return { what: name, error, says, call: () => placed.call() };
}

for (const [family, { ops }] of families) {
  describe(family, () => {
    for (const table of ops) {
      const valid = OpCall.of(table, Object.keys(table.cases)[0]!);

      test(`${table.op} refuses malformed calls, and works afterwards`, () => {
        for (const mistake of genericRefusals(valid, reference(), other)) expectRefusal(mistake);
        expect(differences(valid, valid.run(reference()), valid.expected())).toEqual([]);
      });

      if (table.bad) {
        test.each(table.bad)(`${table.op} refuses: $name`, (mistake) => {
          expectRefusal(refusal(table, mistake));
        });
      }

      if (table.badContent) {
        test.each(table.badContent)(
          `${table.op} reports at the next read: $name`,
          ({ change, error, says }) => {
            for (const device of [reference(), ...instructionSets().map((isa) => poisoned(isa, 1))]) {
              const { read, written } = refuseContent(table, change, device);
              expect({ device: device.name, ...read, written }).toEqual({
                device: device.name,
                error,
                message: expect.stringContaining(says),
                written: [],
              });
            }
          },
        );
      }
    }
  });
}

describe("in place", () => {
  const pairs = [...families.values()].flatMap(({ ops }) =>
    ops.flatMap((table) => inPlaceCalls(table).map((pair) => ({ op: table.op, ...pair }))),
  );

  test.each(pairs)("$op: $output may be $input", ({ output, input, calls }) => {
    for (const device of [reference(), ...instructionSets().map((isa) => poisoned(isa, 3))]) {
      for (const call of calls) {
        const same = sameInPlace(call, output, input, device);
        expect({ device: device.name, case: call.caseName, same }).toEqual({
          device: device.name,
          case: call.caseName,
          same: true,
        });
      }
    }
  });
});
