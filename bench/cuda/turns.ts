import { median, quantile } from "../statistics.js";

/** One way to do something. */
export interface System {
  /** Whose it is. When one system of a party fails, its others take no more turns either. */
  party: string;
  /** Seconds of each of a few runs, after runs that are not timed. */
  sample: () => Promise<number[]>;
}

export interface Times {
  median: number;
  p10: number;
  p90: number;
  samples: number[];
}

/** Systems that take turns, so that clocks and temperature are the same for all. One that fails leaves the others alone. */
export class Turns {
  /** Why a party takes no more turns. */
  readonly failures = new Map<string, string>();
  readonly #samples: number[][][];

  constructor(private readonly systems: readonly System[]) {
    this.#samples = systems.map(() => []);
  }

  /** Each system takes a turn, or the first `count` of them. */
  async round(count = this.systems.length): Promise<void> {
    for (const [i, { party, sample }] of this.systems.slice(0, count).entries()) {
      if (this.failures.has(party)) continue;
      try {
        this.#samples[i]!.push(await sample());
      } catch (error) {
        this.failures.set(party, messageOf(error));
      }
    }
  }

  /** Of a system's turns so far; undefined if there was none. */
  timesOf(system: number): Times | undefined {
    const samples = this.#samples[system]!.flat();
    return samples.length > 0 ? timesOf(samples) : undefined;
  }

  /** The median of a system's last turn / that of its first one. */
  driftOf(system: number): number {
    const turns = this.#samples[system]!;
    return median(turns.at(-1) ?? []) / median(turns[0] ?? []);
  }
}

function timesOf(samples: number[]): Times {
  return { median: median(samples), p10: quantile(samples, 0.1), p90: quantile(samples, 0.9), samples };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** How often to run something that takes `seconds`, in one of `rounds` turns: 100 times in all, or for 2 s. */
export function runsPerTurn(seconds: number, rounds: number): number {
  return Math.max(2, Math.ceil(Math.min(100, 2 / seconds) / rounds));
}
