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
import { cudaDevice, cudaDevices } from "../support/cuda.js";
import type { OpCases } from "../support/op-case.js";
import { loadFamilies, OpCall } from "../support/op-harness.js";
import { precisionClass } from "../support/tolerance.js";

const families = await loadFamilies();

function check(call: OpCall, dtype: ProductDType): void {
  const expected = referenceOutputs(call, openDevice("reference", { poison: true, dtype }));
  for (const [device, equivalent] of cudaDevices(dtype)) {
    expect(disagreement(call, device, equivalent, expected)).toEqual(agreement(device));
  }
}

for (const [family, { ops }] of families) {
  for (const table of ops) {
    describe(family, () => {
      const device = cudaDevice();

      test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
        check(OpCall.of(table, caseName), "f32");
      });

      if (table.badContent) {
        test.each(table.badContent)(
          `${table.op} reports at the next read: $name`,
          ({ change, error, says }) => {
            const { read, written } = refuseContent(table, change, device);
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
        for (const call of calls) expect(sameInPlace(call, output, input, device)).toBe(true);
      });
    });
  }
}

const rounded = productDTypes.filter((dtype) => dtype !== "f32");
const tablesOf = (...names: string[]): OpCases[] => names.flatMap((name) => families.get(name)?.ops ?? []);

describe.each(rounded)("%s products", (dtype) => {
  for (const table of tablesOf("gemm", "grouped-gemm", "grouped-gemm-backward")) {
    test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
      check(OpCall.of(table, caseName), dtype);
    });
  }

  // Softmax weights are rounded too, at a scale that depends on the keys seen so far.
  for (const table of tablesOf("rel-attention")) {
    test.each(Object.keys(table.cases))(`${table.op}: %s`, (caseName) => {
      check(OpCall.of(table, caseName).within({ norm: precisionClass[dtype] }), dtype);
    });
  }
});
