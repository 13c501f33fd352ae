import { describe, test } from "@jest/globals";
import { openDevice } from "../../lib/device.js";
import { checkGradients } from "../support/gradient-check.js";
import { loadFamilies } from "../support/op-harness.js";

const families = await loadFamilies();

// Backward rules of lib/ops against finite differences in float64.
describe.each(["reference", "cpu"])("on %s", (name) => {
  const device = openDevice(name, { poison: true });
  for (const [family, { gradients = [] }] of families) {
    if (gradients.length === 0) continue;
    describe(family, () => {
      test.each(gradients)("$name", (gradientCase) => {
        checkGradients(gradientCase, device);
      });
    });
  }
});
