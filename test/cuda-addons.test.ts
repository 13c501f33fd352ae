import { expect, test } from "@jest/globals";
import { runChild } from "./support/child.js";

/** Set by jest.config.js. */
declare const hyperrouterTest: { addons: { name: string; binding: string; missing: string }[] };

// The CUDA backend is tested by two other projects; where one of them is left out, this says so.
for (const { name, binding, missing } of hyperrouterTest.addons) {
  if (missing !== "") {
    test.skip(`CUDA, ${name}: not tested, ${missing}`, () => undefined);
    continue;
  }
  test(`CUDA, ${name}: the addon opens a device`, async () => {
    const env = { HYPERROUTER_BINDING: binding };
    const child = new URL("emulator/children/open-cuda.ts", import.meta.url);
    const { stdout, code } = await runChild(child, { env });
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining("compute capability") });
  });
}
