// Runs the examples as a reader would; char-lm.ts is run in test/cli/cli.test.ts.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { expect, test } from "@jest/globals";

const root = fileURLToPath(new URL("..", import.meta.url));

test("examples/custom-router.ts trains, validates and loads in part", async () => {
  const args = ["--import", "./scripts/typescript.mjs", "examples/custom-router.ts", "12"];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: root });
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^routers: 336 parameters of 323792$/m);
  expect([...stdout.matchAll(/^step \d+: valid bpc \d\.\d{3}, with all experts \d\.\d{3}$/gm)]).toHaveLength(
    4,
  );
  expect(stdout).toMatch(/^end after 12 steps: steps$/m);
  expect(stdout).toMatch(/^loaded 27 tensors; not routers\.source\.a, routers\.source\.b$/m);
  expect(stdout).toMatch(/^307568 of 323952 parameters left to train$/m);
}, 60_000);
