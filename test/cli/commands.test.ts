import { cp, mkdir, mkdtemp, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";

import { beforeAll, describe, expect, jest, test } from "@jest/globals";

import type { Evaluation } from "../../lib/train/evaluate.js";
import { readMetrics } from "../../lib/train/metrics-file.js";
import { root, runCommand, startProgram, tinyConfigFile } from "../support/command.js";
import { tinyText } from "../support/tiny-run.js";

jest.setTimeout(60_000);

/** A folder with the run `run` of one small model, that all tests share. */
let folder: string;
let trained: Awaited<ReturnType<typeof runCommand>>;

beforeAll(async () => {
  const config = await tinyConfigFile({ train: { steps: 20 }, evaluation: { every: 10 } });
  folder = dirname(config);
  const args = ["train", config, "--out", "run", "--tensorboard", "--set", "checkpoint.every=10"];
  trained = await runCommand([...args, "--set", "log.every=5"], folder);
});

describe("train", () => {
  test("leaves settings, metrics, a log and checkpoints in the folder of the run", async () => {
    expect(trained).toMatchObject({ status: 0, stderr: "" });
    const names = (await readdir(join(folder, "run"))).map((name) => name.replace(/tfevents.*/, "tfevents"));
    expect(names.sort()).toEqual([
      ...["checkpoints", "config.json", "events.out.tfevents", "log.txt", "metrics.jsonl"],
    ]);
    const config = JSON.parse(await readFile(join(folder, "run", "config.json"), "utf8")) as object;
    expect(config).toMatchObject({ train: { steps: 20 }, log: { every: 5, tensorboard: true } });
    const records = await readMetrics(join(folder, "run", "metrics.jsonl"));
    expect(records.map(({ type, step }) => `${type} ${step}`)).toEqual([
      ...["start 0", "training 5", "training 10", "validation 10", "training 15", "training 20"],
      ...["validation 20", "test 20", "test 20", "test 20"],
    ]);
    const log = await readFile(join(folder, "run", "log.txt"), "utf8");
    expect(log).toMatch(/^\d{4}-.* train .*\.json --out run/);
    for (const line of trained.stdout.split("\n").filter((text) => !text.includes("tok/s"))) {
      expect(log).toContain(line);
    }
    expect(log.match(/step .*tok\/s/g)).toHaveLength(4);
  });

  test("takes the config.json of another run, and numbers the folders it names itself", async () => {
    const config = join("run", "config.json");
    const quick = ["--set", "train.steps=1", "--set", "evaluation.every=null"];
    for (const expected of ["config", "config-2"]) {
      const { status } = await runCommand(["train", config, ...quick], folder);
      expect({ status, names: await readdir(join(folder, "runs")) }).toMatchObject({
        status: 0,
        names: expect.arrayContaining([expected]),
      });
    }
  });

  test("trains models of words and models without experts", async () => {
    const settings = ["data.tokens=words", "model.moeLayers=[]", "train.steps=2", "evaluation.every=null"];
    const args = ["train", "run/config.json", "--out", "words", ...settings.flatMap((s) => ["--set", s])];
    const { status, stdout, stderr } = await runCommand(args, folder);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(
      /bits per word +nats +perplexity\n {2}no experts +\d\.\d{4} +\d\.\d{4} +\d+\.\d\d\n/,
    );
    const generated = await runCommand(["generate", "words", "--max-tokens", "3"], folder);
    expect(generated.stdout).toMatch(/^the \S/);
  });

  test("goes on without metrics and log when the disk is full for them", async () => {
    const run = join(folder, "full");
    await mkdir(run);
    for (const name of ["metrics.jsonl", "log.txt"]) await symlink("/dev/full", join(run, name));
    const args = ["train", "run/config.json", "--out", "full", "--set", "train.steps=3"];
    const { status, stdout, stderr } = await runCommand(args, folder);
    expect({ status, lines: stderr.trim().split("\n") }).toEqual({
      status: 0,
      lines: [
        "warning: full/log.txt cannot be written: no space left on the device",
        "warning: the metrics cannot be written any more: no space left on the device",
      ],
    });
    expect(stdout).toMatch(/\nSample\n/);
    expect(await readdir(join(run, "checkpoints"))).toEqual(["step-00000003.safetensors"]);
  });

  test("prints settings without training", async () => {
    const { status, stdout } = await runCommand(["train", "enwik8-large", "--settings"], folder);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^ {2}model\.numLayers +18$/m);
  });
});

describe("a trained model", () => {
  test("is evaluated with the numbers that training printed", async () => {
    const { stdout } = await runCommand(["evaluate", "run", "--experts", "1,4", "--json"], folder);
    const results = JSON.parse(stdout) as Evaluation[];
    expect(results.map(({ topK }) => topK)).toEqual([1, 4]);
    for (const { topK, bpc } of results) {
      expect(trained.stdout).toMatch(new RegExp(`^ {2}${topK} +${bpc.toFixed(4)} `, "m"));
    }
    const other = await runCommand(["evaluate", "run", "--part", "valid", "--segments", "1"], folder);
    expect(other.stdout).toMatch(/experts per token \(k\) +bits per character +nats\n {2}1 +\d/);
  });

  test("is not evaluated on texts with another vocabulary", async () => {
    await writeFile(join(folder, "other.txt"), tinyText(300, 5).replaceAll("jury", "table"));
    const { status, stderr } = await runCommand(["evaluate", "words", "--data", "other.txt"], folder);
    expect({ status, stderr }).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/another vocabulary[^]*fix: .*--data/),
    });
  });

  test("continues a text, the same one for the same seed", async () => {
    const args = ["generate", "run", "--prompt", "the jury", "--max-tokens", "12", "--top-p", "0.9"];
    const [first, again, other] = await Promise.all(
      ["3", "3", "4"].map((seed) => runCommand([...args, "--seed", seed, "--experts", "4"], folder)),
    );
    expect(first).toMatchObject({ status: 0, stderr: "" });
    expect(first!.stdout).toMatch(/^the jury/);
    expect(again!.stdout).toBe(first!.stdout);
    expect(other!.stdout).not.toBe(first!.stdout);
  });

  test("is exported; baked, it says the same in fewer bytes", async () => {
    const exported = await Promise.all([
      runCommand(["export", "run", "plain.safetensors"], folder),
      runCommand(["export", "run", "baked.safetensors", "--bake"], folder),
    ]);
    for (const { status, stdout } of exported) {
      expect(status).toBe(0);
      expect(stdout).toMatch(/wrote +(plain|baked)\.safetensors, [\d.]+ kB/);
    }
    const paths = ["plain", "baked"].map((name) => join(folder, `${name}.safetensors`));
    const [plain, baked] = await Promise.all(paths.map(async (path) => (await stat(path)).size));
    expect(baked).toBeLessThan(plain!);
    const texts = await Promise.all(
      ["run", ...paths].map((path) => runCommand(["generate", path, "--max-tokens", "9"], folder)),
    );
    expect(new Set(texts.map(({ stdout }) => stdout)).size).toBe(1);
  });

  test("may be read by a program that stops early", async () => {
    const command = `"${process.execPath}" "${join(root, "dist/cli/main.js")}" generate run --max-tokens 2000 | head -c 20`;
    const { stdout, stderr } = await startProgram("sh", ["-c", command], folder).ended;
    expect({ length: stdout.length > 0, stderr }).toEqual({ length: true, stderr: "" });
  });
});

describe("data prepare", () => {
  test("says what it wrote, uses it again, and names a command that trains on it", async () => {
    const path = join(folder, "prepared.txt");
    await writeFile(path, tinyText(400));
    const args = ["data", "prepare", "text", path, "--tokens", "words"];
    const first = await runCommand(args, folder);
    expect(first).toMatchObject({ status: 0, stderr: "" });
    expect(first.stdout).toMatch(/vocabulary +2\d\n {2}files +written just now\n/);
    const rows = [...first.stdout.matchAll(/^ {2}(train|valid|test) +([\d,]+) +([\d.]+ \S+) +(\S+)$/gm)];
    expect(rows.map(([, part]) => part)).toEqual(["train", "valid", "test"]);
    for (const [, , , , file] of rows) expect((await stat(file!)).size).toBeGreaterThan(100);
    expect((await runCommand(args, folder)).stdout).toMatch(/files +were there already/);

    const train = /train +npx hyperrouter (train .+)$/m.exec(first.stdout)?.[1]?.split(" ") ?? [];
    const tiny = [
      "train.steps=1",
      "model.dModel=8",
      "model.hyperSize=4",
      "model.numLayers=1",
      "train.batchSize=2",
    ];
    const { status, stdout } = await runCommand([...train, ...tiny.flatMap((s) => ["--set", s])], folder);
    expect(status).toBe(0);
    expect(stdout).toMatch(/bits per word/);
  });
});

describe("info", () => {
  test("tells version, platform, binary and devices", async () => {
    const { stdout } = await runCommand(["info", "--json"]);
    const info = JSON.parse(stdout) as Record<string, unknown>;
    const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
    expect(info).toMatchObject({
      ...{ version, platform: `${process.platform}-${process.arch}`, node: process.version },
      binary: expect.stringMatching(/hyperrouter\.node$/),
      cuda: { available: false },
    });
    expect(info["devices"]).toContainEqual(
      expect.objectContaining({ name: "reference", threads: 1, float: "f64" }),
    );
    const readable = await runCommand(["info"]);
    expect(readable.stdout).toMatch(/^ {2}cuda +off: .+\n\nDevices\n {2}cpu +\S+, \d+ threads?, f32$/m);
  });
});

test("an installed package says that it has no benchmarks", async () => {
  const copy = await mkdtemp(join(tmpdir(), "hyperrouter-"));
  await mkdir(join(copy, "node_modules"));
  await Promise.all([
    cp(join(root, "dist"), join(copy, "dist"), { recursive: true }),
    cp(join(root, "package.json"), join(copy, "package.json")),
    symlink(join(root, "node_modules", "zod"), join(copy, "node_modules", "zod")),
  ]);
  const main = join(copy, "dist", "cli", "main.js");
  const { status, stderr } = await startProgram(process.execPath, [main, "bench"], copy).ended;
  expect(stderr).toMatch(/installed without its benchmarks\n {2}fix: run npm run bench in a checkout/);
  expect(status).toBe(2);
});

describe("wrong usage", () => {
  test.each<[string[], number, RegExp]>([
    [["trian"], 2, /there is no command "trian"\n {2}fix: did you mean "train"\?/],
    [["data"], 2, /there is no command "data"\n {2}fix: did you mean "data prepare"\?/],
    [["--sets", "a=5"], 2, /'--sets'[^]*fix: did you mean "--set"\?/],
    [["--set", "train.step=5"], 2, /unknown option "train\.step"\n {2}fix: did you mean "train\.steps"\?/],
    [["--set", "model.topK=99"], 2, /99, but there are 16 experts/],
    [["train", "enwik9"], 2, /preset is "enwik9"\n {2}fix: did you mean "enwik8"\?/],
    [["train", "enwik8"], 2, /enwik8 needs its texts\n {2}fix: add --set data\.path/],
    [["train", "nowhere.json"], 1, /nowhere\.json: cannot be read: no such file/],
    [["train", "--out", "run"], 2, /holds a run already\n {2}fix: go on with it: .+ resume run/],
    [["resume", "nowhere"], 1, /nowhere\/config\.json: cannot be read[^]*fix: pass the folder of a run/],
    [["resume", "run", "--set", "model.dModel=8"], 1, /settings differ: model\.dModel \(16 there, 8 here\)/],
    [["evaluate"], 2, /no run is named/],
    [["evaluate", "nowhere.safetensors"], 1, /nowhere\.safetensors[^]*fix:/],
    [["evaluate", "x", "y"], 2, /unexpected argument "y"/],
    [["evaluate", "run", "--experts", "5"], 2, /there are 4 experts/],
    [["evaluate", "run", "--part", "tset"], 2, /--part is "tset"\n {2}fix: did you mean "test"\?/],
    [["generate", "run", "--temperature", "hot"], 2, /--temperature is "hot"\n {2}fix: pass a number/],
    [["generate", "run", "--checkpoint", "lates"], 2, /did you mean "latest"\?/],
    [["export", "run"], 2, /no file to write is named/],
    [["data", "prepare", "enwik9", "x"], 2, /corpus is "enwik9"\n {2}fix: did you mean "enwik8"\?/],
    [["data", "prepare", "brown"], 2, /brown needs no preparation/],
    [["data", "prepare", "text8", "nowhere"], 1, /nowhere: cannot be read: no such file/],
  ])("%j ends with status %i and says what to do", async (args, status, message) => {
    const result = await runCommand(args, folder);
    expect(result.stderr).toMatch(message);
    expect(result.status).toBe(status);
  });

  test("leaves no folder of a run behind", async () => {
    const before = await readdir(folder);
    const { status } = await runCommand(
      ["train", "enwik8", "--set", "data.path=nowhere", "--out", "new"],
      folder,
    );
    expect(status).toBe(1);
    expect(await readdir(folder)).toEqual(before);
  });
});

const names = ["train", "resume", "evaluate", "generate", "export", "data prepare", "info", "bench"];

describe("--help", () => {
  test("lists the commands and the exit statuses", async () => {
    const { status, stdout } = await runCommand(["--help"]);
    expect(status).toBe(0);
    for (const name of names) expect(stdout).toContain(`  ${name}`);
    for (const code of ["0 done", "1 failed", "2 wrong usage", "130 interrupted"])
      expect(stdout).toContain(code);
  });

  test.each(names)("of %s has usage and an example", async (name) => {
    const { status, stdout } = await runCommand([...name.split(" "), "--help"]);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`^Usage: npx hyperrouter ${name}`));
    expect(stdout).toMatch(new RegExp(`^Example: npx hyperrouter ${name}`, "m"));
    for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(120);
  });
});

test("the command has the name that the package gives it", async () => {
  const { bin } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as {
    bin: Record<string, string>;
  };
  const [[name, path]] = Object.entries(bin) as [[string, string]];
  expect([name, basename(path)]).toEqual(["hyperrouter", "main.js"]);
  expect(await readFile(join(root, path), "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
});
