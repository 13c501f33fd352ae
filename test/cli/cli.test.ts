import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, jest, test } from "@jest/globals";

import { runCommand, startProgram } from "../support/command.js";

jest.setTimeout(120_000);

const smallModel = ["numLayers=2", "dModel=32", "numHeads=2", "dHead=16", "dInner=32", "numExperts=8"];
const shortened = [
  ...["train.steps=40", "train.seqLen=32", "evaluation.maxBatches=3", "model.hyperSize=16"],
  ...smallModel.map((setting) => `model.${setting}`),
].flatMap((setting) => ["--set", setting]);

test("npm start trains on the Brown corpus, reports, and names commands that work", async () => {
  const folder = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "run");
  const start = ["start", "--silent", "--", ...shortened, "--out", folder];
  const { status, stdout, stderr } = await startProgram("npm", start).ended;
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
  const routing = /^ {2}(?:\d| ) +(start|end) +[\d.]+ +[\d.]+ % +[\d.]+ % +([▁-█]+)$/gmu;
  const routed = [...stdout.matchAll(routing)].map(([, when, load]) => [when, load?.length]);
  expect(routed).toEqual([
    ["start", 8],
    ["end", 8],
    ["start", 8],
    ["end", 8],
  ]);
  expect(stdout).toMatch(/\nSample\n {2}The /);

  // The commands it names.
  const named = (what: string): string[] =>
    new RegExp(`^ {2}${what} +npm start -- (.+)$`, "m")
      .exec(stdout)?.[1]
      ?.match(/[^ ']+|'[^']*'/g)
      ?.map((word) => word.replaceAll("'", "")) ?? [];
  const [evaluated, generated, options] = await Promise.all([
    runCommand([...named("evaluate"), "--json"]),
    runCommand([...named("generate"), "--max-tokens", "9"]),
    runCommand(named("options")),
  ]);
  const results = JSON.parse(evaluated.stdout) as { topK: number; bpc: number }[];
  expect(results.map(({ bpc }) => bpc.toFixed(4))).toEqual(sweep.map(([, , bpc]) => bpc));
  expect(generated.stdout).toMatch(/^The jury said/);
  expect(options.stdout).toMatch(/--set <key=value>/);
});

test("the example trains, reports and samples through the API", async () => {
  const args = ["--import", "./scripts/typescript.mjs", "examples/char-lm.ts", "8", "1"];
  const { status, stdout, stderr } = await startProgram(process.execPath, args).ended;
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

test("npx hyperrouter works in a checkout", async () => {
  const { status, stdout } = await startProgram("npx", ["--no-install", "hyperrouter", "info"]).ended;
  expect(status).toBe(0);
  expect(stdout).toMatch(/^ {2}reference +reference, 1 thread, f64$/m);
});
