import type { Device } from "../../lib/device.js";
import { native } from "../../lib/native.js";
import { scope } from "../../lib/scope.js";
import { empty } from "../../lib/tensor.js";

/** Queues one call. Calls are numbered, so that each can have tensors of its own. */
export type Queue = (call: number) => void;

/** Square products that keep a device busy while the host queues what is to be timed. */
interface Plug {
  size: number;
  count: number;
}

const smallest: Plug = { size: 64, count: 1 };
const largestSize = 4096;
const mostProducts = 512;
/** Of each device: what was enough the last time. */
const plugs = new WeakMap<Device, Plug>();

/**
 * Seconds that a device takes for a call when it never waits for the host: it gets work in front of the calls, and more
 * of it until all calls are queued before the first one starts.
 *
 * @param queue Must not wait for the device. Runs more often than `calls` times while the plug is too short.
 * @throws {Error} for more calls than the driver's queue holds, about 1000 kernels.
 */
export async function deviceSeconds(device: Device, queue: Queue, calls: number): Promise<number> {
  for (;;) {
    const plug = plugs.get(device) ?? smallest;
    await device.settled();
    const begin = performance.now();
    const plugged = device.timestamp();
    scope(() => queuePlug(device, plug));
    const reached = device.timestamp();
    for (let call = 0; call < calls; call += 1) queue(call);
    const done = device.timestamp();
    const queueing = (performance.now() - begin) / 1000;
    const [start, first, last] = await Promise.all([plugged, reached, done]);
    // The plug started after `begin`: the device cannot have reached the first call before this had passed.
    if (first - start >= queueing) return (last - first) / calls;
    plugs.set(device, longer(plug));
  }
}

/** Seconds between calls that are queued one after the other on an idle device: the host's, if it is the slower one. */
export async function pipelineSeconds(device: Device, queue: Queue, calls: number): Promise<number> {
  await device.settled();
  const first = device.timestamp();
  for (let call = 0; call < calls; call += 1) queue(call);
  const last = device.timestamp();
  return ((await last) - (await first)) / calls;
}

function queuePlug(device: Device, { size, count }: Plug): void {
  const [a, b, c] = [0, 1, 2].map(() => empty(device.float, [size, size], device).handle) as [
    number,
    number,
    number,
  ];
  for (let product = 0; product < count; product += 1)
    native().ops.gemm(a, b, null, c, false, false, "none", false);
}

function longer({ size, count }: Plug): Plug {
  if (size < largestSize) return { size: 2 * size, count };
  if (count < mostProducts) return { size, count: 2 * count };
  throw new Error(
    "the host cannot queue so many calls before the device reaches the first; time fewer at once",
  );
}
