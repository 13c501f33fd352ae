import { describe, expect, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { type ProductDType, productDTypes } from "../../lib/dtype.js";
import {
  agreement,
  disagreement,
  inPlaceCalls,
  referenceOutputs,
  sameInPlace,
} from "../support/agreement.js";
import { refuseContent } from "../support/content-refusal.js";
import { cudaOps, emulated } from "../support/emulator.js";
import type { OpCases } from "../support/op-case.js";
import { loadFamilies, OpCall } from "../support/op-harness.js";

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const available = cudaOps();
const families = await loadFamilies();

/** The op on every emulated GPU, whenever copies arrive and in whatever order warps and blocks run. */
function check(table: OpCases, caseName: string, dtype: ProductDType): void {
  const call = OpCall.of(table, caseName);
  const expected = referenceOutputs(call, openDevice("reference", { poison: true, dtype }));
  const [drawn, late, early] = emulated(dtype);
  expect(disagreement(call, drawn, late, expected)).toEqual(agreement(drawn));
  expect(disagreement(call, late, early, expected)).toEqual(agreement(late));
}

for (const [family, { ops }] of families) {
  for (const table of ops) {
    if (!available.has(snakeCase(table.op))) continue;
    describe(family, () => {
      test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
        check(table, caseName, "f32");
      });

      if (table.badContent) {
        test.each(table.badContent)(
          `${table.op} reports at the next read: $name`,
          ({ change, error, says }) => {
            const { read, written } = refuseContent(table, change, emulated()[0]);
            expect({ ...read, written }).toEqual({
              error,
              message: expect.stringContaining(says),
              written: [],
            });
          },
        );
      }

      if (!table.inPlace) return;
      test.each(inPlaceCalls(table))(`${table.op}: $output may be $input`, ({ output, input, calls }) => {
        for (const call of calls) expect(sameInPlace(call, output, input, emulated()[0])).toBe(true);
      });
    });
  }
}

const products = ["gemm", "grouped-gemm", "grouped-gemm-backward"].flatMap(
  (family) => families.get(family)?.ops ?? [],
);
for (const table of products) {
  if (!available.has(snakeCase(table.op))) continue;
  describe.each(productDTypes.filter((dtype) => dtype !== "f32"))("%s products", (dtype) => {
    test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
      check(table, caseName, dtype);
    });
  });
}
