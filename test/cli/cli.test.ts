import { spawn } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, jest, test } from "@jest/globals";

jest.setTimeout(240_000);

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

function run(command: string, args: readonly string[]): Promise<Result> {
  const child = spawn(command, args, { cwd: root, env: { ...process.env, NO_COLOR: "1" } });
  const result: Result = { status: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (result.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (result.stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => {
      resolve({ ...result, status });
    });
  });
}

const start = (...args: string[]): Promise<Result> => run("npm", ["start", "--silent", "--", ...args]);

const small = ["steps=40", "seqLen=32"].flatMap((setting) => ["--set", `train.${setting}`]);
const smallModel = [
  "numLayers=2",
  "dModel=32",
  "numHeads=2",
  "dHead=16",
  "dInner=32",
  "numExperts=8",
  "hyperSize=16",
];
const shortened = [
  ...small,
  ...smallModel.flatMap((setting) => ["--set", `model.${setting}`]),
  "--set",
  "evaluation.maxBatches=3",
];

test("npm start trains on the Brown corpus, reports, and names commands that work", async () => {
  const folder = await mkdtemp(join(tmpdir(), "hyperrouter-"));
  const { status, stdout, stderr } = await start(...shortened, "--out", folder);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });

  // Settings, parameter counts, progress.
  expect(stdout).toMatch(/^ {2}train\.steps +40$/m);
  expect(stdout).toMatch(/^ {2}model\.gate +hyper-router$/m);
  expect(stdout).toMatch(/^ {2}parameters +[\d,]+ in all, [\d,]+ trainable$/m);
  expect(stdout).toMatch(/^ {2}of the routers +[\d,]+ in all, 64 trainable$/m);
  const steps = [
    ...stdout.matchAll(
      /step +(\d+)\/40 +loss ([\d.]+) +bpc ([\d.]+) +\d+ tok\/s +left [\d:]+ +k +(\d+) +entropy ([\d.]+)/g,
    ),
  ];
  expect(steps.length).toBeGreaterThanOrEqual(2);
  expect(Number(steps[0]?.[3])).toBeCloseTo(8, 0);
  expect(Number(steps.at(-1)?.[3])).toBeLessThan(7.5);
  expect(steps.at(-1)?.[4]).toBe("8");

  // Results: k = 1, 2, 4, 8; gzip beside it; routers at the start and at the end; a sample.
  const sweep = [...stdout.matchAll(/^ {2}(\d+) +(\d\.\d{4}) +\d\.\d{4}$/gm)];
  expect(sweep.map(([, k]) => k)).toEqual(["1", "2", "4", "8"]);
  expect(stdout).toMatch(/gzip -9 on the same text: [23]\.\d{4} bits per character/);
  expect(stdout).toMatch(/layer +entropy at start +at end/);
  expect(stdout).toMatch(/layer 1: load of each expert at the end/);
  expect(stdout).toMatch(/\nSample\n {2}The /);

  // The commands it names.
  const evaluate = /evaluate +npm start -- (.+)$/m.exec(stdout)?.[1]?.split(" ") ?? [];
  const evaluated = await start(...evaluate, "--json");
  expect(evaluated.status).toBe(0);
  const results = JSON.parse(evaluated.stdout) as { topK: number; bpc: number }[];
  expect(results.map(({ bpc }) => bpc.toFixed(4))).toEqual(sweep.map(([, , bpc]) => bpc));

  const generate = [
    join(folder, "model.safetensors"),
    "--prompt",
    "The jury said",
    "--max-tokens",
    "20",
    "--seed",
    "3",
  ];
  const [first, second] = [await start("generate", ...generate), await start("generate", ...generate)];
  expect(first.status).toBe(0);
  expect(first.stdout).toMatch(/^The jury said/);
  expect(second.stdout).toBe(first.stdout);

  const options = /options +npm start -- (.+)$/m.exec(stdout)?.[1]?.split(" ") ?? [];
  expect((await start(...options)).stdout).toMatch(/--set <key=value>/);
});

test("the example trains, reports and samples through the API", async () => {
  const { status, stdout, stderr } = await run("node", [
    ...["--import", "./scripts/typescript.mjs", "examples/char-lm.ts", "8", "1"],
  ]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(stdout).toMatch(/^5135536 parameters, 3445120 of them trainable$/m);
  expect([...stdout.matchAll(/^step \d+\/8 {2}bpc \d\.\d{3} {2}k \d/gm)].length).toBe(8);
  expect([...stdout.matchAll(/^test, k = (\d+): \d\.\d{4} bits per character$/gm)].map(([, k]) => k)).toEqual(
    ["1", "2", "4", "8", "16"],
  );
  expect(stdout).toMatch(/^test, gzip -9: 3\.\d{4} bits per character$/m);
  expect([...stdout.matchAll(/^layer \d: router entropy [\d.]+ -> [\d.]+ nats, load/gm)].length).toBe(3);
  expect(stdout).toMatch(/\nThe /);
});

describe("wrong usage", () => {
  test.each([
    [["trian"], 2, /there is no command "trian"\n {2}fix: did you mean "train"\?/],
    [["--sets", "a=5"], 2, /'--sets'[^]*fix: did you mean "--set"\?/],
    [["--set", "train.step=5"], 1, /unknown option "train\.step"\n {2}fix: did you mean "train\.steps"\?/],
    [["--set", "model.topK=99"], 1, /99, but there are 16 experts/],
    [["evaluate"], 2, /no model is named/],
    [["evaluate", "nowhere.safetensors"], 1, /nowhere\.safetensors[^]*fix:/],
    [["evaluate", "x", "y"], 2, /unexpected argument "y"/],
  ])("%j ends with status %i and says what to do", async (args, status, message) => {
    const result = await run("node", ["dist/cli/main.js", ...args]);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
  });

  test("--help lists the commands", async () => {
    const { status, stdout } = await run("node", ["dist/cli/main.js", "--help"]);
    expect(status).toBe(0);
    for (const name of ["train", "evaluate", "generate"]) expect(stdout).toContain(`  ${name}`);
  });
});
