import { expect, test } from "@jest/globals";
import { embed } from "../../lib/ops/embed.js";
import { matmul } from "../../lib/ops/gemm.js";
import { scope } from "../../lib/scope.js";
import { indices, zeros } from "../../lib/tensor.js";
import { cudaDevice } from "../support/cuda.js";

const device = cudaDevice();

test("the clock of the GPU runs while it works, and never backwards", async () => {
  const begin = performance.now();
  const stamps = scope(() => {
    const x = zeros([128, 128], device);
    const before = device.timestamp();
    const during = Array.from({ length: 20 }, () => {
      matmul(x, x);
      return device.timestamp();
    });
    return [before, ...during, device.timestamp()];
  });
  const seconds = await Promise.all(stamps);
  const elapsed = (performance.now() - begin) / 1000;
  expect(seconds).toEqual(seconds.toSorted((a, b) => a - b));
  const total = seconds.at(-1)! - seconds[0]!;
  // 84 MFLOP take a microsecond at the least.
  expect(total).toBeGreaterThan(1e-6);
  expect(total).toBeLessThan(elapsed);
});

test("a timestamp is refused after an op that failed, like settled()", async () => {
  const before = await device.timestamp();
  scope(() => embed(indices([7], [1], device), zeros([2, 1], device)));
  const refused = device.timestamp();
  await expect(refused).rejects.toThrow("embed: ids[0] is 7, expected 0 to 1");
  expect(await device.timestamp()).toBeGreaterThan(before);
});
