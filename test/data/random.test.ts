import { expect, test } from "@jest/globals";
import { normal, seededRandom } from "../../lib/data/random.js";

const draws = (count: number, random: () => number): number[] => Array.from({ length: count }, random);
const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

test("the same keys give the same numbers, any other key gives others", () => {
  const reference = draws(20, seededRandom(1, 2, 3));
  expect(draws(20, seededRandom(1, 2, 3))).toEqual(reference);
  for (const keys of [
    [1, 2, 4],
    [2, 1, 3],
    [1, 2],
    [1, 2, 3 + 2 ** 32],
    [-1, 2, 3],
    [0, 1, 2, 3],
  ]) {
    const others = draws(20, seededRandom(...keys));
    expect(others.filter((value, i) => value === reference[i])).toEqual([]);
  }
});

test("numbers are uniform in [0, 1), within a stream and over neighbouring keys", () => {
  for (const values of [
    draws(20_000, seededRandom(7)),
    Array.from({ length: 20_000 }, (_, key) => seededRandom(0, key)()),
  ]) {
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    const tenths = new Array<number>(10).fill(0);
    for (const value of values) tenths[Math.floor(value * 10)]!++;
    for (const count of tenths) expect(Math.abs(count - 2000)).toBeLessThan(5 * Math.sqrt(1800));
  }
});

test("normal numbers have the mean and deviation asked for", () => {
  const random = seededRandom(5);
  const values = Array.from({ length: 20_000 }, () => normal(random, 30, 5));
  expect(Math.abs(mean(values) - 30)).toBeLessThan(0.2);
  expect(Math.abs(Math.sqrt(mean(values.map((value) => (value - 30) ** 2))) - 5)).toBeLessThan(0.2);
});
