import { describe, test } from "@jest/globals";
import { cudaDevice } from "../support/cuda.js";
import { checkGradients } from "../support/gradient-check.js";
import { loadFamilies } from "../support/op-harness.js";

// What backward gives on the GPU against finite differences in float64.
const device = cudaDevice();
for (const [family, { gradients = [] }] of await loadFamilies()) {
  if (gradients.length === 0) continue;
  describe(family, () => {
    test.each(gradients)("$name", (gradientCase) => {
      checkGradients(gradientCase, device);
    });
  });
}
