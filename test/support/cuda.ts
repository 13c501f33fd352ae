import { type Device, openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";
import { emulated } from "./emulator.js";

/** A GPU of the loaded addon, emulated or real. */
export function cudaDevice(dtype: ProductDType = "f32"): Device {
  return openDevice("cuda:0", { poison: true, dtype });
}

/**
 * GPUs and for each one that must give the same bits: the emulated ones, whenever copies arrive and in whatever order
 * warps and blocks run; or a real one and itself.
 */
export function cudaDevices(dtype: ProductDType = "f32"): [device: Device, equivalent: Device][] {
  const gpu = cudaDevice(dtype);
  if (!gpu.description.startsWith("emulator")) return [[gpu, gpu]];
  const [drawn, late, early] = emulated(dtype);
  return [
    [drawn, late],
    [late, early],
  ];
}
