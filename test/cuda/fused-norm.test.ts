import { test } from "@jest/globals";
import { cudaDevice } from "../support/cuda.js";
import { checkFusedNorm, fusedNormSizes } from "../support/fused-norm.js";

// Experts, residual and norm in one op give the bits of two ops, on the GPU too.
test.each(fusedNormSizes)("%j", (sizes) => {
  checkFusedNorm(cudaDevice(), sizes);
});
