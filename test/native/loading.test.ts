import { fileURLToPath } from "node:url";
import { describe, expect, jest, test } from "@jest/globals";
import { native } from "../../lib/native.js";
import { describedOps } from "../support/op-harness.js";
import { runChild } from "../support/child.js";

jest.setTimeout(120_000);

const load = (binding: string): Promise<{ code: number | null; stdout: string }> =>
  runChild(new URL("children/load.ts", import.meta.url), { env: { HYPERROUTER_BINDING: binding } });

describe("loading the addon", () => {
  test("happens once", () => {
    expect(native()).toBe(native());
  });

  test("from the path in HYPERROUTER_BINDING", async () => {
    const built = fileURLToPath(new URL("../../build/Release/hyperrouter.node", import.meta.url));
    expect(await load(built)).toMatchObject({ code: 0, stdout: "loaded\n" });
  });

  test.each([
    ["a missing file", "/nowhere/hyperrouter.node", /\/nowhere\/hyperrouter\.node: no such file/],
    [
      "a file that is no addon",
      fileURLToPath(new URL("loading.test.ts", import.meta.url)),
      /loading\.test\.ts: /,
    ],
  ])("fails for %s with what was tried and what to do", async (_, path, tried) => {
    const { code, stdout } = await load(path);
    const [name, reason, fix] = stdout.trim().split("\n");
    expect({ code, name }).toEqual({ code: 0, name: "NativeLoadError" });
    expect(reason).toMatch(/^no native addon for \w+-\w+ could be loaded \(tried /);
    expect(reason).toMatch(tried);
    expect(fix).toBe(
      "run `npm run build:native` in a clone (linux-x64 and linux-arm64 are supported), " +
        "or point HYPERROUTER_BINDING at a hyperrouter.node file",
    );
  });
});

describe("describeOps()", () => {
  test("names every function of `ops`, in the same order", () => {
    expect([...describedOps().keys()]).toEqual(Object.keys(native().ops));
  });

  test("gives every op a tensor that it writes", () => {
    for (const [op, parameters] of describedOps()) {
      const writes = parameters.some(
        ({ access, optional }) => access !== undefined && access !== "in" && !optional,
      );
      // The gradients of a hyper router are wanted one by one.
      expect({ op, writes }).toEqual({ op, writes: op !== "hyperRouterBackward" });
    }
  });
});
