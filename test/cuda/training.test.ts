import { describe, expect, test } from "@jest/globals";
import { type ProductDType, productDTypes } from "../../lib/dtype.js";
import { type OpenRunOptions, openRun } from "../../lib/train/run.js";
import { cudaDevices } from "../support/cuda.js";
import { precisionClass } from "../support/tolerance.js";
import { modelDigest, newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const path = await tinyTextFile();

interface Trained {
  losses: number[];
  digest: string;
}

/** Trains a tiny model with dropout; experts per token grow from 1 to all. */
async function trained(
  device: string,
  dtype: ProductDType,
  options: OpenRunOptions & { steps?: number; stopAt?: number } = {},
): Promise<Trained> {
  const { steps = 6, stopAt = steps, ...rest } = options;
  const growing = { topKSchedule: "linear_increase", topKMin: 1, topKMax: 4 };
  const config = tinyConfig(path, {
    ...{ model: { dropout: 0.1, attentionDropout: 0.1 }, train: { steps, lr: 1e-2, ...growing } },
    ...{ device, dtype },
  });
  const run = await openRun(config, rest);
  const stop = new AbortController();
  const losses: number[] = [];
  for await (const event of run.train({ signal: stop.signal })) {
    if (event.type !== "step") continue;
    losses.push(event.loss);
    if (event.step === stopAt) stop.abort();
  }
  const digest = await modelDigest(run.model);
  await run.close();
  return { losses, digest };
}

/** ‖a - b‖ / ‖b‖ */
function relativeDifference(a: number[], b: number[]): number {
  return Math.hypot(...a.map((value, i) => value - b[i]!)) / Math.hypot(...b);
}

describe.each(productDTypes)("training with %s products", (dtype) => {
  test("has the losses of float64, dropout included", async () => {
    const [gpu, exact] = [await trained("cuda", dtype), await trained("reference", "f32")];
    expect(gpu.losses).toHaveLength(6);
    expect(relativeDifference(gpu.losses, exact.losses)).toBeLessThan(precisionClass[dtype]);
  });

  test("gives the same bits again", async () => {
    const first = await trained("cuda", dtype);
    for (const [, { name }] of cudaDevices(dtype)) expect(await trained(name, dtype)).toEqual(first);
  });

  test("goes on bit for bit from a checkpoint", async () => {
    const whole = await trained("cuda", dtype);
    const checkpoints = await newFolder();
    const first = await trained("cuda", dtype, { checkpoints, stopAt: 2 });
    const second = await trained("cuda", dtype, { checkpoints, resume: true });
    expect([...first.losses, ...second.losses]).toEqual(whole.losses);
    expect(second.digest).toBe(whole.digest);
  });
});

test("training lowers the loss", async () => {
  const { losses } = await trained("cuda", "f32", { steps: 60 });
  expect(losses[0]).toBeGreaterThan(5);
  expect(Math.min(...losses.slice(-5))).toBeLessThan(3);
});
