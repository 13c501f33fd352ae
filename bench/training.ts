import { readFileSync } from "node:fs";
import { monitorEventLoopDelay, performance } from "node:perf_hooks";

import { parseConfig } from "../lib/train/config.js";
import { openRun } from "../lib/train/run.js";

/** What training the quickstart model costs. */
export interface TrainingResult {
  tokensPerSecond: number;
  /** How much of a step the JavaScript thread is at work: TypeScript, binding, garbage collection. */
  javascriptShare: {
    /** Its CPU time; null where the system does not tell (only Linux does). */
    cpu: number | null;
    /** The event loop's utilisation: all time but that spent waiting for events. Includes waiting for a core. */
    busy: number;
  };
  /** 99th percentile and maximum of the time between two ticks of a 1 ms timer. */
  eventLoopDelayMs: { p99: number; max: number };
  /** Seconds of each step. */
  samples: number[];
}

/** The most that the event loop may be late, at the 99th percentile. */
export const eventLoopDelayLimitMs = 30;

/** Trains the quickstart twice: the timer that measures delays would add to the share of JavaScript. */
export async function measureTraining(steps: number): Promise<TrainingResult> {
  let [begin, end] = [javascriptTime(), javascriptTime()];
  const { samples, tokens } = await train(steps, {
    begin: () => (begin = javascriptTime()),
    end: () => (end = javascriptTime()),
  });
  const delay = monitorEventLoopDelay({ resolution: 1 });
  await train(steps, { begin: () => delay.enable(), end: () => delay.disable() });
  const seconds = samples.reduce((sum, sample) => sum + sample, 0);
  return {
    tokensPerSecond: tokens / seconds,
    javascriptShare: {
      cpu: end.cpuSeconds === null ? null : (end.cpuSeconds - (begin.cpuSeconds ?? 0)) / seconds,
      busy: performance.eventLoopUtilization(end.loop, begin.loop).utilization,
    },
    eventLoopDelayMs: { p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 },
    samples,
  };
}

/**
 * Trains the quickstart for `steps` updates after two to warm up. Its schedules are squeezed into them, so that the
 * number of experts per token passes through the same values as in a whole run.
 */
async function train(steps: number, { begin, end }: { begin: () => void; end: () => void }) {
  const warmUp = 2;
  const run = await openRun(parseConfig({ train: { steps: warmUp + steps } }));
  try {
    const samples: number[] = [];
    let tokens = 0;
    for await (const event of run.trainer.run({ steps: warmUp + steps })) {
      if (event.type !== "step") continue;
      if (event.step === warmUp) begin();
      if (event.step <= warmUp) continue;
      samples.push(event.seconds);
      tokens += event.tokens;
    }
    end();
    return { samples, tokens };
  } finally {
    await run.close();
  }
}

function javascriptTime() {
  return { loop: performance.eventLoopUtilization(), cpuSeconds: mainThreadCpuSeconds() };
}

function mainThreadCpuSeconds(): number | null {
  try {
    return Number(readFileSync("/proc/self/schedstat", "utf8").split(" ")[0]) / 1e9;
  } catch {
    return null;
  }
}
