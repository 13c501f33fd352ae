import { describe, test } from "@jest/globals";
import { checkFusedNorm, fusedNormSizes } from "../support/fused-norm.js";
import { instructionSets, poisoned } from "../support/op-harness.js";

// Experts, residual and norm in one op give the bits of two ops.
describe.each(["reference", ...instructionSets()])("%s", (name) => {
  const device = poisoned(name, 2);
  test.each(fusedNormSizes)("%j", (sizes) => {
    checkFusedNorm(device, sizes);
  });
});
