import { describe, expect, test } from "@jest/globals";
import { describedOps, loadFamilies, OpCall, type Parameter } from "../support/op-harness.js";

const tables = [...(await loadFamilies()).values()].flatMap(({ ops }) => ops);

/** Cases every op has. */
const always = ["sizes that divide no tile", "one of everything"];
/** Cases of every op that works on routed rows. */
const routed = [
  "one token",
  "one expert",
  "k = E",
  "an expert without tokens",
  "all tokens to one expert",
  "dropped pairs",
];

/** All but the one whose tokens go to all experts. */
const isRouted = (op: string, parameters: readonly Parameter[]): boolean =>
  op !== "groupedGemmSum" &&
  parameters.some(
    ({ name, access }) =>
      access === "in" && /^(permutation|inversePermutation|expertIndices|expertOffsets)$/.test(name),
  );

/** What the cases of an op never do with a parameter. */
function missing(calls: readonly OpCall[], { name, kind, optional, values }: Parameter): string[] {
  const seen = new Set(calls.map((call) => call.args[name]));
  const unseen = (wanted: readonly unknown[]): string[] =>
    wanted.filter((value) => !seen.has(value as never)).map((value) => `${name} = ${String(value)}`);
  if (kind === "boolean") return unseen([true, false]);
  if (kind === "enum") return unseen(values!);
  if (kind === "tensor") {
    const present = calls.some((call) => call.args[name] !== null);
    return [...(present ? [] : [`${name} present`]), ...(optional ? unseen([null]) : [])];
  }
  if (name === "dropout") return [...unseen([0]), ...(seen.size > 1 ? [] : ["dropout above 0"])];
  return [];
}

describe("every op of the addon has cases", () => {
  test("no table is for an op that does not exist, none is there twice", () => {
    const covered = tables.map(({ op }) => op as string).sort();
    expect(covered).toEqual([...describedOps().keys()].sort());
  });

  test.each([...describedOps()])("%s", (op, parameters) => {
    const table = tables.find((candidate) => candidate.op === op)!;
    const calls = OpCall.all(table);
    expect(Object.keys(table.cases)).toEqual(
      expect.arrayContaining(isRouted(op, parameters) ? [...always, ...routed] : always),
    );
    expect(parameters.flatMap((parameter) => missing(calls, parameter))).toEqual([]);
    const scalars = parameters.filter(({ kind }) => kind === "number" || kind === "integer").length;
    expect((table.bad ?? []).length).toBeGreaterThanOrEqual(Math.min(scalars, 1));
  });
});
