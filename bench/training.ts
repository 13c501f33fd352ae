import { monitorEventLoopDelay, performance } from "node:perf_hooks";

import { parseConfig } from "../lib/train/config.js";
import { openRun } from "../lib/train/run.js";

/** What training the quickstart model costs. */
export interface TrainingResult {
  tokensPerSecond: number;
  /** Fraction of the time in which the JavaScript thread was at work: TypeScript, binding, garbage collection. */
  javascriptShare: number;
  /** 99th percentile and maximum of the time between two ticks of a 1 ms timer. */
  eventLoopDelayMs: { p99: number; max: number };
  /** Seconds of each step. */
  samples: number[];
}

/** The most that the event loop may be late, at the 99th percentile. */
export const eventLoopDelayLimitMs = 30;

/**
 * Trains the quickstart for `steps` updates after two to warm up. Its schedules are squeezed into them, so that the
 * number of experts per token passes through the same values as in a whole run.
 *
 * The share of JavaScript is the event loop's utilisation: time not spent waiting for events. It is an upper bound:
 * where the compute threads occupy every core, it includes waiting for one.
 */
export async function measureTraining(steps: number): Promise<TrainingResult> {
  const warmUp = 2;
  const run = await openRun(parseConfig({ train: { steps: warmUp + steps } }));
  const delay = monitorEventLoopDelay({ resolution: 1 });
  try {
    const samples: number[] = [];
    let tokens = 0;
    let start = performance.eventLoopUtilization();
    for await (const event of run.trainer.steps({ steps: warmUp + steps })) {
      if (event.step > warmUp) {
        samples.push(event.seconds);
        tokens += event.tokens;
      } else if (event.step === warmUp) {
        start = performance.eventLoopUtilization();
        delay.enable();
      }
    }
    const { utilization } = performance.eventLoopUtilization(start);
    delay.disable();
    return {
      tokensPerSecond: tokens / samples.reduce((sum, seconds) => sum + seconds, 0),
      javascriptShare: utilization,
      eventLoopDelayMs: { p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 },
      samples,
    };
  } finally {
    await run.close();
  }
}
