import type { Device } from "../../lib/device.js";
import type { Expected } from "./nd-array.js";
import type { OpCases } from "./op-case.js";
import { bitDifferences, changedInputs, differences, OpCall } from "./op-harness.js";

/** What a device got wrong in one call; every list is empty when it got nothing wrong. */
export interface Disagreement {
  device: string;
  differences: string[];
  changedInputs: string[];
  changedByRunningAgain: string[];
  changedByThreadsOrAlignment: string[];
  writtenAround: string[];
}

/**
 * Runs a call on a device, on the same device again, and on an equivalent one with every tensor between guards, by
 * which some are aligned to nothing.
 *
 * @param equivalent Must give the same bits.
 */
export function disagreement(
  call: OpCall,
  device: Device,
  equivalent: Device,
  expected: Record<string, Expected>,
): Disagreement {
  const run = call.run(device);
  const again = call.run(device);
  const guarded = call.place(equivalent, { guarded: true });
  guarded.call();
  const found = {
    device: device.name,
    differences: differences(call, run, expected),
    changedInputs: changedInputs(call, run),
    changedByRunningAgain: bitDifferences(call, run, again),
    changedByThreadsOrAlignment: bitDifferences(call, run, guarded.read()),
    writtenAround: guarded.damagedGuards(),
  };
  guarded.release();
  return found;
}

/** The disagreement of a device that got nothing wrong. */
export function agreement(device: Device): Disagreement {
  return {
    device: device.name,
    differences: [],
    changedInputs: [],
    changedByRunningAgain: [],
    changedByThreadsOrAlignment: [],
    writtenAround: [],
  };
}

/** Every output of the call on the reference device. */
export function referenceOutputs(call: OpCall, reference: Device): Record<string, Expected> {
  return Object.fromEntries([...call.run(reference)].map(([name, result]) => [name, result.numbers()]));
}

/** Does writing `output` over `input` give the same bits as writing it elsewhere? */
export function sameInPlace(call: OpCall, output: string, input: string, device: Device): boolean {
  const placed = call.place(device);
  placed.handles.set(output, placed.handles.get(input)!);
  placed.call();
  const same = placed.read().get(output)!.equals(call.run(device).get(output)!);
  placed.release();
  return same;
}

/** Pairs of an output and an input that may be one tensor, with the calls for which the result is the same. */
export function inPlaceCalls(table: OpCases): { output: string; input: string; calls: OpCall[] }[] {
  // An output that is read too (axpby with beta) makes another result of it.
  const calls = OpCall.all(table).filter(({ args }) => args["beta"] === undefined || args["beta"] === 0);
  return (table.inPlace ?? []).map(([output, input]) => ({ output, input, calls }));
}
