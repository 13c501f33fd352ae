import type { OpResult } from "./measure-ops.js";
import type { Report } from "./report.js";
import { startupLimitMs } from "./startup.js";
import { eventLoopDelayLimitMs, type TrainingResult } from "./training.js";

/** Something that ought to hold, besides the ratios of comparisons. */
export interface Target {
  name: string;
  value: number;
  limit: number;
  /** Which side of the limit is good. */
  good: "at most" | "at least";
  unit: "%" | "ms";
}

const expertShareOfPeak = 80;
const javascriptShareLimit = 5;

export function isMet({ value, limit, good }: Target): boolean {
  return good === "at most" ? value <= limit : value >= limit;
}

/** Those about which a report says something. */
export function targetsOf({ ops, startup, training }: Report): Target[] {
  return [
    ...expertTargets(ops),
    ...(startup ? [atMost("import to first step", startup.importToFirstStepMs, startupLimitMs, "ms")] : []),
    ...(training ? trainingTargets(training) : []),
  ];
}

function trainingTargets({ javascriptShare, eventLoopDelayMs }: TrainingResult): Target[] {
  const share = 100 * (javascriptShare.cpu ?? javascriptShare.busy);
  return [
    atMost("TypeScript + binding", share, javascriptShareLimit, "%"),
    atMost("event-loop delay p99", eventLoopDelayMs.p99, eventLoopDelayLimitMs, "ms"),
  ];
}

function atMost(name: string, value: number, limit: number, unit: Target["unit"]): Target {
  return { name, value, limit, good: "at most", unit };
}

/** The slowest of the expert products. */
function expertTargets(ops: readonly OpResult[]): Target[] {
  const experts = ops.filter(({ name }) => name.startsWith("grouped_gemm") && name.endsWith("k=8"));
  return [...new Set(experts.map(({ threads }) => threads))].map((threads) => {
    const shares = experts.filter((op) => op.threads === threads).map((op) => op.shareOfPeak.perSecond);
    return {
      name: `expert products k=8, ${threads} thr., / FMA peak`,
      value: 100 * Math.min(...shares),
      limit: expertShareOfPeak,
      good: "at least",
      unit: "%",
    };
  });
}
