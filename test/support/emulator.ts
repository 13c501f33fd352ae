import { type Device, openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";

/**
 * The emulated GPUs: asynchronous copies arrive whenever, as late and as early as allowed. The second one has so many
 * multiprocessors that its tiles are small.
 */
export function emulated(dtype: ProductDType = "f32"): [drawn: Device, late: Device, early: Device] {
  const open = (index: number): Device => openDevice(`cuda:${index}`, { poison: true, dtype });
  return [open(0), open(1), open(2)];
}
