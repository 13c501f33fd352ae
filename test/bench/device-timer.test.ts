import { expect, test } from "@jest/globals";
import { deviceSeconds, pipelineSeconds } from "../../bench/cuda/device-timer.js";
import { rotatingCases } from "../../bench/cuda/kernel-cases.js";
import { openDevice } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { tensor, zeros } from "../../lib/tensor.js";

const device = openDevice("cpu", { threads: 1 });
const x = zeros([1], device);

function fill(): void {
  native().ops.fill(x.handle, 1);
}

function busyHost(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test("a slow host counts where calls are queued one by one, and not on the device's clock", async () => {
  const slowlyQueued = (): void => {
    busyHost(50);
    fill();
  };
  expect(await pipelineSeconds(device, slowlyQueued, 4)).toBeGreaterThan(0.04);
  expect(await deviceSeconds(device, slowlyQueued, 4)).toBeLessThan(0.02);
});

test("work of the device counts in both", async () => {
  const size = 512;
  const [a, c] = [zeros([size, size], device), zeros([size, size], device)];
  const product = (): void =>
    native().ops.gemm(a.handle, a.handle, null, c.handle, false, false, "none", false);
  // 0.27 GFLOP take more than a millisecond on any core.
  expect(await deviceSeconds(device, product, 4)).toBeGreaterThan(0.001);
  expect(await pipelineSeconds(device, product, 4)).toBeGreaterThan(0.001);
});

test.each([
  [1e6, 16],
  [20e6, 8],
  [140e6, 4],
  [200e6, 1],
])("calls that touch %p bytes take turns on %p sets of tensors", async (bytes, numSets) => {
  const counter = tensor(new Float32Array(20), [20], device);
  let built = 0;
  const build = () => {
    const own = native().viewTensor(counter.handle, built++, [1]);
    return [{ name: "count", work: { bytes }, queue: () => native().ops.fill(own, 1) }];
  };
  const [kernel] = rotatingCases({ name: "count", size: "machine", hasProducts: false, build }, device);
  expect(kernel).toMatchObject({ name: "count", numSets });
  for (let call = 0; call < numSets; call += 1) kernel!.queue(call);
  const touched = (await counter.data()).filter((count) => count === 1);
  expect(touched).toHaveLength(numSets);
});
