import { readFileSync } from "node:fs";
import { describe, expect, test } from "@jest/globals";
import { ConfigError, ValueError } from "../../lib/errors.js";
import { topKModes, topKSchedule, type TopKMode } from "../../lib/moe/top-k-schedule.js";

interface GoldenEntry {
  mode: TopKMode;
  overall_steps: number;
  k_min: number;
  k_max: number;
  steps: number[];
  k: number[];
  k_at_overall_steps: number | string;
  k_at_2x_overall_steps: number | string;
}

const golden = JSON.parse(
  readFileSync(new URL("../golden/g_topk_schedules.json", import.meta.url), "utf8"),
) as {
  entries: GoldenEntry[];
  linear_increase_change_points_400k_8_16: [number, number][];
  linear_increase_change_points_50k_8_16: [number, number][];
};

function optionsOf(entry: GoldenEntry): { mode: TopKMode; min: number; max: number; steps: number } {
  return { mode: entry.mode, min: entry.k_min, max: entry.k_max, steps: entry.overall_steps };
}

const title = "$mode over $overall_steps steps, $k_min to $k_max";

describe("recorded schedules", () => {
  test("cover every mode", () => {
    expect(new Set(golden.entries.map(({ mode }) => mode))).toEqual(new Set(topKModes));
  });

  test.each(golden.entries)(title, (entry) => {
    for (const referenceQuirks of [false, true]) {
      const schedule = topKSchedule({ ...optionsOf(entry), referenceQuirks });
      expect(entry.steps.map(schedule)).toEqual(entry.k);
    }
  });

  test.each(golden.entries)(`at and beyond the end, with quirks: ${title}`, (entry) => {
    const schedule = topKSchedule({ ...optionsOf(entry), referenceQuirks: true });
    for (const [t, expected] of [
      [entry.overall_steps, entry.k_at_overall_steps],
      [2 * entry.overall_steps, entry.k_at_2x_overall_steps],
    ] as const) {
      if (typeof expected === "number") expect(schedule(t)).toBe(expected);
      else expect(() => schedule(t)).toThrow(ValueError);
    }
  });

  test.each(golden.entries)(`beyond the end the value at the end is kept: ${title}`, (entry) => {
    const schedule = topKSchedule(optionsOf(entry));
    const { overall_steps: steps, k_at_overall_steps: end } = entry;
    if (typeof end === "number") expect(schedule(steps)).toBe(end);
    else expect(schedule(steps)).toBe(schedule(steps - 1));
    for (const factor of [2, 3, 4, 100]) expect(schedule(factor * steps)).toBe(schedule(steps));
  });
});

describe("published change points of linear_increase, 8 to 16", () => {
  test.each([
    [400_000, golden.linear_increase_change_points_400k_8_16],
    [50_000, golden.linear_increase_change_points_50k_8_16],
  ])("over %i steps", (steps, changes) => {
    const schedule = topKSchedule({ mode: "linear_increase", min: 8, max: 16, steps });
    for (const [t, k] of changes) {
      expect(schedule(t)).toBe(k);
      if (t > 0) expect(schedule(t - 1)).toBe(k - 1);
    }
  });
});

test("halves round to even, also below zero", () => {
  const up = topKSchedule({ mode: "linear_increase", min: 1, max: 9, steps: 16 }); // 8 t / 16 = t / 2
  expect([1, 2, 3, 4, 5, 6, 7].map(up)).toEqual([1, 2, 3, 3, 3, 4, 5]);
  const down = topKSchedule({ mode: "linear_decrease", min: 1, max: 9, steps: 16 });
  expect([1, 2, 3, 4, 5, 6, 7].map(down)).toEqual([9, 8, 7, 7, 7, 6, 5]);
});

test("the unclamped cosine of the reference swings back", () => {
  const options = { mode: "cosine_decrease", min: 1, max: 5, steps: 10 } as const;
  expect(topKSchedule({ ...options, referenceQuirks: true })(40)).toBe(5);
  expect(topKSchedule(options)(40)).toBe(1);
});

test.each(topKModes)("%s stays within [min, max] and is monotonic", (mode) => {
  for (const [min, max, steps] of [
    [1, 16, 1000],
    [3, 3, 300],
    [2, 8, 777],
    [5, 40, 3001],
  ] as const) {
    const schedule = topKSchedule({ mode, min, max, steps });
    const direction = mode.endsWith("increase") ? 1 : -1;
    let previous = schedule(0);
    for (let t = 1; t <= steps + 10; t++) {
      const k = schedule(t);
      expect(Number.isInteger(k) && k >= min && k <= max).toBe(true);
      expect((k - previous) * direction).toBeGreaterThanOrEqual(0);
      previous = k;
    }
  }
});

test("options out of range are refused by name", () => {
  const valid = { mode: "linear_increase", min: 1, max: 4, steps: 10 } as const;
  expect(() => topKSchedule({ ...valid, mode: "toString" as TopKMode })).toThrow(/mode.*linear_increase/s);
  expect(() => topKSchedule({ ...valid, min: 0 })).toThrow(ConfigError);
  expect(() => topKSchedule({ ...valid, max: 0.5 })).toThrow("max");
  expect(() => topKSchedule({ ...valid, min: 5 })).toThrow("max");
  for (const steps of [0, -1, NaN]) expect(() => topKSchedule({ ...valid, steps })).toThrow("steps");
  expect(() => topKSchedule({ ...valid, mode: "exp_increase", steps: 299 })).toThrow("300");
});
