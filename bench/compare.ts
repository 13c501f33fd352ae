import { setTimeout } from "node:timers/promises";

import type { MachinePeak, Rate } from "./machine-peak.js";
import { median } from "./statistics.js";

/** Does something once. @returns the seconds it took. */
export type Runner = () => Promise<number>;

/** Two ways to get the same results. */
export interface Comparison {
  /** What both do. */
  name: string;
  /** Who the other one is, and how it was set up. */
  rival: string;
  settings: string;
  threads: number;
  /** Arithmetic that it takes, where that is known. */
  flops: number | null;
  /** The most that ours / theirs may be; null: for information. */
  target: number | null;
  ours: Runner;
  theirs: Runner;
}

/** What came out. Medians. */
export interface ComparisonResult extends Omit<Comparison, "ours" | "theirs"> {
  seconds: { ours: number; theirs: number };
  ratio: number;
  /** Our rate of arithmetic / the machine's. */
  shareOfPeak: number | null;
  /** One per round: seconds, and the machine's multiply-adds just before. */
  samples: { ours: number[]; theirs: number[]; peak: Rate[] };
}

/** Lets the threads of one side fall asleep before the other begins. */
const pauseMs = 5;

/**
 * Times both sides of all comparisons, sample after sample, round after round, so that other load and clock changes
 * meet all alike. Each sample follows a run that is not timed and fills the caches.
 */
export async function measureComparisons(
  comparisons: readonly Comparison[],
  { peak, rounds }: { peak: Pick<MachinePeak, "multiplyAdd">; rounds: number },
): Promise<ComparisonResult[]> {
  const samples = comparisons.map((): ComparisonResult["samples"] => ({ ours: [], theirs: [], peak: [] }));
  for (let round = 0; round < rounds; round += 1) {
    for (const [i, { threads, ours, theirs }] of comparisons.entries()) {
      samples[i]!.peak.push(peak.multiplyAdd(threads));
      samples[i]!.ours.push(await sample(ours));
      samples[i]!.theirs.push(await sample(theirs));
    }
  }
  return comparisons.map((comparison, i) => {
    const peaks = samples.filter((_, j) => comparisons[j]!.threads === comparison.threads);
    const perSecond = peaks.flatMap((each) => each.peak).map((rate) => rate.perSecond);
    return resultOf(comparison, samples[i]!, median(perSecond));
  });
}

async function sample(runner: Runner): Promise<number> {
  await runner();
  const seconds = await runner();
  await setTimeout(pauseMs);
  return seconds;
}

function resultOf(
  comparison: Comparison,
  samples: ComparisonResult["samples"],
  peak: number,
): ComparisonResult {
  const { name, rival, settings, threads, flops, target } = comparison;
  const seconds = { ours: median(samples.ours), theirs: median(samples.theirs) };
  return {
    ...{ name, rival, settings, threads, flops, target, seconds },
    ratio: seconds.ours / seconds.theirs,
    shareOfPeak: flops === null ? null : flops / seconds.ours / peak,
    samples,
  };
}
