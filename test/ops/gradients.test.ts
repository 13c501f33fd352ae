import { describe, test } from "@jest/globals";
import { checkGradients } from "../support/gradient-check.js";
import { loadFamilies, reference } from "../support/op-harness.js";

// Backward rules of lib/ops against finite differences in float64.
for (const [family, { gradients = [] }] of await loadFamilies()) {
  if (gradients.length === 0) continue;
  describe(family, () => {
    test.each(gradients)("$name", (gradientCase) => {
      checkGradients(gradientCase, reference());
    });
  });
}
