import { openDevice } from "../lib/device.js";
import { native } from "../lib/native.js";
import { parseConfig } from "../lib/train/config.js";
import { openRun } from "../lib/train/run.js";

/** What one op costs in a training step, on average. */
export interface OpShare {
  op: string;
  callsPerStep: number;
  secondsPerStep: number;
}

/**
 * Where a training step of the quickstart goes: waits for the device after every op and charges the time to it.
 * Slower than training proper by the waiting. The last entry is the rest: TypeScript, transfers, data.
 */
export async function profileTraining(steps: number): Promise<OpShare[]> {
  const config = parseConfig({ train: { steps } });
  const device = openDevice(config.device);
  const totals = new Map<string, { calls: number; seconds: number }>();
  const ops = native().ops as unknown as Record<string, (...args: unknown[]) => void>;
  const originals = { ...ops };
  const run = await openRun(config);
  device.synchronize();
  for (const [name, op] of Object.entries(originals)) {
    ops[name] = (...args) => {
      const start = performance.now();
      op(...args);
      device.synchronize();
      const total = totals.get(name) ?? { calls: 0, seconds: 0 };
      totals.set(name, {
        calls: total.calls + 1,
        seconds: total.seconds + (performance.now() - start) / 1000,
      });
    };
  }
  let all = 0;
  try {
    await run.trainer.train({
      steps,
      onStep: ({ seconds }) => {
        all += seconds;
      },
    });
  } finally {
    Object.assign(ops, originals);
    await run.close();
  }
  const shares = [...totals].map(([op, { calls, seconds }]) => ({
    op,
    callsPerStep: calls / steps,
    secondsPerStep: seconds / steps,
  }));
  shares.sort((a, b) => b.secondsPerStep - a.secondsPerStep);
  const rest = all / steps - shares.reduce((sum, { secondsPerStep }) => sum + secondsPerStep, 0);
  return [...shares, { op: "everything else", callsPerStep: 1, secondsPerStep: rest }];
}
