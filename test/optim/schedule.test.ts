import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { ConfigError } from "../../lib/errors.js";
import { constantLr, cosineLr, invSqrtLr, PlateauLr, type LrSchedule } from "../../lib/optim/schedule.js";

interface GoldenEntry {
  scheduler: "cosine" | "inv_sqrt" | "constant";
  lr: number;
  warmup_step: number;
  max_step: number;
  eta_min: number;
  lr_used_by_update: number[];
}

const golden = JSON.parse(
  readFileSync(new URL("../golden/j_lr_schedules.json", import.meta.url), "utf8"),
) as { entries: GoldenEntry[] };

function scheduleOf(entry: GoldenEntry, referenceQuirks: boolean): LrSchedule {
  const options = { lr: entry.lr, warmupSteps: entry.warmup_step, referenceQuirks };
  switch (entry.scheduler) {
    case "cosine":
      return cosineLr({ ...options, maxSteps: entry.max_step, minLr: entry.eta_min });
    case "inv_sqrt":
      return invSqrtLr(options);
    case "constant":
      return constantLr(options);
  }
}

describe("reference quirks", () => {
  test.each(golden.entries)("$scheduler with warm-up $warmup_step matches the recorded rates", (entry) => {
    const schedule = scheduleOf(entry, true);
    expect(entry.lr_used_by_update).toHaveLength(entry.max_step);
    expect(entry.lr_used_by_update.map((_, t) => schedule(t))).toEqual(entry.lr_used_by_update);
  });

  test("without a warm-up the cosine needs no quirk", () => {
    const entry = golden.entries[0] as GoldenEntry;
    const [fixed, quirky] = [scheduleOf(entry, false), scheduleOf(entry, true)];
    for (let t = 0; t < entry.max_step; t++) expect(fixed(t)).toBe(quirky(t));
  });
});

describe("corrected schedules", () => {
  test("constant ramps to the full rate and stays there", () => {
    const schedule = constantLr({ lr: 1, warmupSteps: 4 });
    expect([0, 1, 2, 3, 4, 1000].map(schedule)).toEqual([0.25, 0.5, 0.75, 1, 1, 1]);
  });

  test("cosine ramps, peaks at the full rate, ends at the lowest and stays there", () => {
    const schedule = cosineLr({ lr: 1, minLr: 0.1, warmupSteps: 4, maxSteps: 12 });
    expect([0, 1, 2, 3, 4].map(schedule)).toEqual([0.25, 0.5, 0.75, 1, 1]);
    expect(schedule(8)).toBeCloseTo(0.55, 12);
    expect(schedule(12)).toBeCloseTo(0.1, 12);
    expect(schedule(1_000_000)).toBe(schedule(12));
  });

  test("inverse square root starts above zero and peaks after the warm-up", () => {
    const schedule = invSqrtLr({ lr: 1, warmupSteps: 4 });
    expect([0, 1, 3].map(schedule)).toEqual([1 / 8, 2 / 8, 4 / 8]);
    expect(schedule(15)).toBe(0.25);
  });

  test("no schedule rises after its warm-up or leaves (0, lr]", () => {
    for (const warmupSteps of [0, 1, 7]) {
      const options = { lr: 0.01, warmupSteps };
      for (const schedule of [
        cosineLr({ ...options, maxSteps: 50 }),
        invSqrtLr(options),
        constantLr(options),
      ]) {
        for (let t = 0; t < 49; t++) {
          expect(schedule(t)).toBeGreaterThan(0);
          expect(schedule(t)).toBeLessThanOrEqual(0.01);
          if (t >= warmupSteps) expect(schedule(t + 1)).toBeLessThanOrEqual(schedule(t));
        }
      }
    }
  });
});

describe("PlateauLr", () => {
  test("decays after more than `patience` evaluations without improvement, not below minLr", () => {
    const plateau = new PlateauLr({ lr: 1, decayRate: 0.5, patience: 1, minLr: 0.2 });
    const rates = [3, 2, 2, 2.5, 1, 1, 1, 1, NaN, 1, 1].map((loss) => {
      plateau.evaluated(loss);
      return plateau.rate(100);
    });
    expect(rates).toEqual([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2]);
  });

  test("with the default patience every failure to improve decays", () => {
    const plateau = new PlateauLr({ lr: 1 });
    for (const loss of [1, 1, 1]) plateau.evaluated(loss);
    expect(plateau.rate(0)).toBe(0.25);
  });

  test("a saved state resumes through JSON", () => {
    const saved = new PlateauLr({ lr: 1, patience: 1 });
    for (const loss of [2, 3]) saved.evaluated(loss);
    const resumed = new PlateauLr({ lr: 1, patience: 1 });
    resumed.state = JSON.parse(JSON.stringify(saved.state)) as typeof saved.state;
    for (const loss of [3, 1, 4, 4]) {
      saved.evaluated(loss);
      resumed.evaluated(loss);
      expect(resumed.rate(9)).toBe(saved.rate(9));
    }
    expect(resumed.rate(9)).toBe(0.25);
  });

  test("warms up", () => {
    const plateau = new PlateauLr({ lr: 1, warmupSteps: 2 });
    expect([0, 1, 2].map((t) => plateau.rate(t))).toEqual([0.5, 1, 1]);
  });
});

test("options out of range are refused", () => {
  expect(() => cosineLr({ lr: 0, maxSteps: 5 })).toThrow(ConfigError);
  expect(() => cosineLr({ lr: NaN, maxSteps: 5 })).toThrow("lr is NaN");
  expect(() => cosineLr({ lr: 1, maxSteps: 5, warmupSteps: 5 })).toThrow("maxSteps");
  expect(() => cosineLr({ lr: 1, maxSteps: 5, minLr: 2 })).toThrow("minLr");
  expect(() => constantLr({ lr: 1, warmupSteps: -1 })).toThrow("warmupSteps");
  expect(() => constantLr({ lr: 1, warmupSteps: 0.5 })).toThrow("warmupSteps");
  expect(() => new PlateauLr({ lr: 1, decayRate: 1 })).toThrow("decayRate");
  expect(() => new PlateauLr({ lr: 1, patience: -1 })).toThrow("patience");
});
