import type { Device } from "../lib/device.js";
import { native } from "../lib/native.js";

/** What one op costs in a run, on average. */
export interface OpShare {
  op: string;
  callsPerRun: number;
  secondsPerRun: number;
}

/**
 * Where the time of a computation goes: waits for the device after every op and charges the time to it. Slower than
 * the computation proper by the waiting. The last entry is the rest: TypeScript, transfers, data.
 */
export async function profileOps(
  device: Device,
  runs: number,
  run: () => Promise<unknown>,
): Promise<OpShare[]> {
  await run();
  await device.settled();
  const totals = new Map<string, { calls: number; seconds: number }>();
  const restore = wrapOps((name, call) => {
    const seconds = secondsOf(() => {
      call();
      device.synchronize();
    });
    const total = totals.get(name) ?? { calls: 0, seconds: 0 };
    totals.set(name, { calls: total.calls + 1, seconds: total.seconds + seconds });
  });
  const start = performance.now();
  try {
    for (let i = 0; i < runs; i += 1) await run();
  } finally {
    restore();
  }
  const all = (performance.now() - start) / 1000 / runs;
  const shares = [...totals].map(([op, { calls, seconds }]) => ({
    op,
    callsPerRun: calls / runs,
    secondsPerRun: seconds / runs,
  }));
  shares.sort((a, b) => b.secondsPerRun - a.secondsPerRun);
  const rest = all - shares.reduce((sum, { secondsPerRun }) => sum + secondsPerRun, 0);
  return [...shares, { op: "everything else", callsPerRun: 1, secondsPerRun: rest }];
}

/** Lets `around` do every call of an op from now on. @returns what undoes that. */
function wrapOps(around: (name: string, call: () => void) => void): () => void {
  const ops = native().ops as unknown as Record<string, (...args: unknown[]) => void>;
  const originals = { ...ops };
  for (const [name, op] of Object.entries(originals)) {
    ops[name] = (...args) => {
      around(name, () => {
        op(...args);
      });
    };
  }
  return () => Object.assign(ops, originals);
}

function secondsOf(fn: () => void): number {
  const start = performance.now();
  fn();
  return (performance.now() - start) / 1000;
}
