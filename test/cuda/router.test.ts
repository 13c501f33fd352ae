import { expect, test } from "@jest/globals";
import type { Device } from "../../lib/device.js";
import { scope } from "../../lib/scope.js";
import { routerTopK } from "../../lib/ops/router.js";
import { tensor } from "../../lib/tensor.js";
import { cudaDevice } from "../support/cuda.js";
import { CaseRandom } from "../support/random.js";

// The GPU cuts the scores of many tokens in another way than those of a few.
const [numTokens, few, numExperts, dModel] = [2065, 33, 40, 85];
const random = new CaseRandom("router on the GPU");
const x = random.normals(numTokens * dModel, 0, 1);
const weight = random.normals(numExperts * dModel, 0, 1);

/** Bytes of the logits, experts and weights of the first tokens, computed together with `count - few` others. */
function routed(device: Device, count: number): Promise<Buffer[]> {
  return scope(async () => {
    const tokens = tensor(x.slice(0, count * dModel), [count, dModel], device);
    const { logits, expertIndices, expertWeights } = routerTopK(
      tokens,
      tensor(weight, [numExperts, dModel], device),
      null,
      4,
    );
    const all = await Promise.all([logits.data(), expertIndices.data(), expertWeights.data()]);
    return all.map((values) => {
      const own = values.subarray(0, (values.length / count) * few);
      return Buffer.from(own.buffer, own.byteOffset, own.byteLength);
    });
  });
}

test("a token is routed the same whatever other tokens come with it", async () => {
  const device = cudaDevice();
  expect(await routed(device, numTokens)).toEqual(await routed(device, few));
});

test.each(["tf32", "bf16"] as const)("%s products leave scores as they are in f32", async (dtype) => {
  expect(await routed(cudaDevice(dtype), few)).toEqual(await routed(cudaDevice(), few));
});
