import { expect, test } from "@jest/globals";
import { runChild } from "../support/child.js";

test("5,000 malformed calls give errors, never a crash", async () => {
  const result = await runChild(new URL("children/malformed-calls.ts", import.meta.url), {
    args: ["5000", "1"],
  });
  expect(result).toMatchObject({ code: 0, signal: null, stderr: "" });
  const [, total, ran, refused] =
    /^(\d+) malformed calls: (\d+) ran, (\d+) refused\n$/.exec(result.stdout) ?? [];
  console.log(result.stdout.trim());
  expect(Number(total)).toBe(5000);
  // Some calls must get as far as the kernels, most must not.
  expect(Number(ran)).toBeGreaterThan(500);
  expect(Number(refused)).toBeGreaterThan(2500);
}, 120_000);
