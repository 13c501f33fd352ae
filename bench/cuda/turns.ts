import { median, quantile } from "../statistics.js";

/** One way to do something. */
export interface System {
  /** Seconds of each of a few runs, after runs that are not timed. */
  sample: () => Promise<number[]>;
}

export interface Times {
  median: number;
  p10: number;
  p90: number;
  samples: number[];
}

/** @returns the times of each system. They take turns, so that clocks and temperature are the same for all. */
export async function takeTurns(systems: readonly System[], rounds: number): Promise<Times[]> {
  const samples = systems.map((): number[] => []);
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, system] of systems.entries()) samples[i]!.push(...(await system.sample()));
  }
  return samples.map(timesOf);
}

export function timesOf(samples: number[]): Times {
  return { median: median(samples), p10: quantile(samples, 0.1), p90: quantile(samples, 0.9), samples };
}

/** How often to run something that takes `seconds`, in one of `rounds` turns: 100 times in all, or for 2 s. */
export function runsPerTurn(seconds: number, rounds: number): number {
  return Math.max(2, Math.ceil(Math.min(100, 2 / seconds) / rounds));
}
