import { describe, expect, test } from "@jest/globals";
import { backward } from "../../lib/autograd/tape.js";
import { openDevice } from "../../lib/device.js";
import { Parameter } from "../../lib/nn/parameter.js";
import { gelu } from "../../lib/ops/activation.js";
import { scale } from "../../lib/ops/elementwise.js";
import { linear } from "../../lib/ops/gemm.js";
import { crossEntropy } from "../../lib/ops/loss.js";
import { mean } from "../../lib/ops/reduce.js";
import { currentScope, scope } from "../../lib/scope.js";
import { type FloatTensor, indices, tensor, zeros } from "../../lib/tensor.js";

// Nothing in this file leaves a tensor to the garbage collector: the last test would see it.
const device = openDevice("reference", { memoryLimitBytes: 1 << 29 });

describe("memory", () => {
  const width = 64;
  const layers = 12;
  const batch = 256;
  const activationBytes = batch * width * 8;

  /** A deep network; `step` is one forward and backward pass. */
  function network(): { step: () => void; dispose: () => void } {
    const x = zeros([batch, width], device).keep();
    const targets = indices(new Int32Array(batch), [batch], device).keep();
    const weights = Array.from(
      { length: layers },
      () => new Parameter(tensor(new Float64Array(width * width).fill(0.01), [width, width], device)),
    );
    const step = (): void => {
      scope(() => {
        backward(() => {
          let y: FloatTensor = x;
          for (const w of weights) y = gelu(linear(y, w.value));
          return mean(crossEntropy(scale(y, 1), targets));
        });
      });
    };
    const dispose = (): void => {
      for (const part of [x, targets, ...weights]) part.dispose();
    };
    return { step, dispose };
  }

  test("is freed while backward proceeds: the peak is far below activations and their gradients together", () => {
    const { step, dispose } = network();
    step();
    const start = device.memoryStats().liveBytes;
    device.resetPeak();
    step();
    const peak = device.memoryStats().peakBytes - start;
    // Forward keeps two activations a layer. Were nothing freed, backward would hold two gradients a layer too.
    expect(peak).toBeGreaterThan(2 * layers * activationBytes);
    expect(peak).toBeLessThan((2 * layers + 8) * activationBytes);
    dispose();
  });

  test("is flat over 50 steps, and nothing is left to the garbage collector", () => {
    const { step, dispose } = network();
    step();
    const { liveBytes, tensors, reclaimedByGc } = device.memoryStats();
    for (let i = 0; i < 50; i++) {
      step();
      expect(device.memoryStats()).toMatchObject({ liveBytes, tensors, reclaimedByGc });
    }
    expect(reclaimedByGc).toBe(0);
    expect(currentScope()).toBeUndefined();
    dispose();
  });
});
