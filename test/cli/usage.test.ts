import { expect, test } from "@jest/globals";

import {
  choiceOption,
  commandLine,
  given,
  numberOption,
  parseUsage,
  UsageError,
} from "../../lib/cli/usage.js";

test("a command line can be pasted into a shell", () => {
  expect(commandLine("resume", "runs/brown-2")).toBe("npx hyperrouter resume runs/brown-2");
  expect(commandLine("generate", "my runs/a", "--prompt", "it's")).toBe(
    "npx hyperrouter generate 'my runs/a' --prompt 'it'\\''s'",
  );
});

test("options are known, have values, and no argument is left over", () => {
  const options = { seed: { type: "string" }, json: { type: "boolean" } } as const;
  expect(parseUsage(["run", "--seed", "3"], options, 1)).toMatchObject({
    values: { seed: "3" },
    positionals: ["run"],
  });
  for (const [args, message] of [
    [["--sed", "3"], /fix: did you mean "--seed"\?/],
    [["--what"], /fix: see --help/],
    [["--seed"], /argument missing/],
    [["a", "b"], /unexpected argument "b"/],
  ] as const) {
    expect(() => parseUsage([...args], options, 1)).toThrow(UsageError);
    expect(() => parseUsage([...args], options, 1)).toThrow(message);
  }
});

test("numbers and choices are checked", () => {
  expect(numberOption("seed", undefined)).toBeUndefined();
  expect(numberOption("seed", "1e3")).toBe(1000);
  for (const text of ["", " ", "x", "Infinity"])
    expect(() => numberOption("seed", text)).toThrow(/--seed is/);
  expect(choiceOption("--part", "test", ["test", "valid"])).toBe("test");
  expect(choiceOption("--part", undefined, ["test"])).toBeUndefined();
  expect(() => choiceOption("--part", "tets", ["test", "valid"])).toThrow(/did you mean "test"/);
  expect(() => choiceOption("--part", "zebra", ["test", "valid"])).toThrow(/use one of test, valid/);
  expect(given({ a: 1, b: undefined, c: null })).toEqual({ a: 1, c: null });
});
