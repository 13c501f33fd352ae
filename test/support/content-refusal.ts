import type { Device } from "../../lib/device.js";
import { HyperRouterError } from "../../lib/errors.js";
import { native } from "../../lib/native.js";
import type { BadCall, OpCases } from "./op-case.js";
import { OpCall } from "./op-harness.js";

/** How a call ended that had to be refused: the error's class and message, or that there was none. */
export interface Refused {
  error: string;
  message: string;
}

function refusedBy(action: () => void): Refused {
  try {
    action();
  } catch (caught) {
    if (caught instanceof HyperRouterError)
      return { error: caught.constructor.name, message: caught.message };
    throw caught;
  }
  return { error: "none", message: "" };
}

/**
 * Calls an op with content that is found out only when it runs. The next read has to be refused, once; nothing may be
 * written, and the device has to go on.
 */
export function refuseContent(
  table: OpCases,
  change: BadCall["change"],
  device: Device,
): { read: Refused; written: string[] } {
  const placed = OpCall.changed(table, change).place(device);
  placed.call();
  const [anything] = placed.handles.values();
  const read = refusedBy(() => native().downloadSync(anything!));
  const after = placed.read();
  placed.release();
  const written = placed.of
    .tensors()
    .filter(
      ({ name, access }) =>
        access === "out" &&
        after
          .get(name)!
          .numbers()
          .some((x) => x !== undefined),
    )
    .map(({ name }) => name);
  return { read, written };
}
