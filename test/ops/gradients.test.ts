import { describe, expect, test } from "@jest/globals";
import { gradientPairs } from "../support/finite-differences.js";
import { loadFamilies, reference } from "../support/op-harness.js";

// Backward rules of lib/ops against finite differences in float64.
for (const [family, { gradients = [] }] of await loadFamilies()) {
  if (gradients.length === 0) continue;
  describe(family, () => {
    test.each(gradients)("$name", (gradientCase) => {
      for (const { input, backward, differences } of gradientPairs(gradientCase, reference())) {
        const zero = gradientCase.zero?.includes(input) === true;
        if (zero) expect({ input, backward }).toEqual({ input, backward: backward.map(() => 0) });
        else expect({ input, isZero: backward.every((d) => d === 0) }).toEqual({ input, isZero: false });
        const limit = 1e-8 * Math.max(1, ...differences.map(Math.abs));
        const errors = backward.map((d, i) => Math.abs(d - differences[i]!));
        const worst = errors.findIndex((error) => !(error <= limit));
        if (worst >= 0) expect({ input, worst, backward }).toEqual({ input, worst, backward: differences });
      }
    });
  });
}
