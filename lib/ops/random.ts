import type { Device } from "../device.js";
import { native } from "../native.js";
import type { RandomCall } from "../random.js";
import { empty, type FloatTensor, type Shape } from "../tensor.js";

/** Uniform in `[low, high)`, 24 random bits an element; the same floats on every device. */
export function randomUniform<const S extends Shape>(
  shape: S,
  low: number,
  high: number,
  { seed, call }: RandomCall,
  device: Device,
): FloatTensor<S> {
  const out = empty(device.float, shape, device);
  native().ops.randomUniform(out.handle, low, high, seed, call);
  return out;
}

/** Normal (Box-Muller); the same floats on every device. */
export function randomNormal<const S extends Shape>(
  shape: S,
  mean: number,
  std: number,
  { seed, call }: RandomCall,
  device: Device,
): FloatTensor<S> {
  const out = empty(device.float, shape, device);
  native().ops.randomNormal(out.handle, mean, std, seed, call);
  return out;
}
