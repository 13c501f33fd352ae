// What scripts/gpu-check.mjs is made of.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";

describe("what a part makes of its runs", () => {
  const parts = new URL("../../scripts/gpu-check/parts.mjs", import.meta.url).href;
  const call = (name: string, ...args: unknown[]): unknown => {
    const script = `
      import { ${name} } from ${JSON.stringify(parts)};
      console.log(JSON.stringify(${name}(...${JSON.stringify(args)})));`;
    const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      encoding: "utf8",
    });
    return JSON.parse(stdout) as unknown;
  };
  const ended = (status: number, how = `ended with status ${status}`) => ({ status, how });

  test("kernels: each run has to come to its end", () => {
    const rates = { copyBytesPerSecond: 1e12, flopsPerSecond: {} };
    const results = { rows: [{}, {}], failures: [], missing: [], rates };
    expect(call("judgeKernels", [{ ...ended(0), results }])).toMatchObject({
      status: "passed",
      summary: "2 kernels, copy 1000 GB/s",
    });
    const quiet = { ...ended(137, "was ended after 60 s without output"), results };
    expect(call("judgeKernels", [quiet, { ...ended(0), results }])).toMatchObject({
      status: "failed",
      summary: "2 kernels, copy 1000 GB/s; the benchmark was ended after 60 s without output",
      results: { ended: ["was ended after 60 s without output"] },
    });
    const noRates = { ...rates, copyBytesPerSecond: 0 };
    expect(call("judgeKernels", [{ ...ended(0), results: { ...results, rates: noRates } }])).toMatchObject({
      summary: "2 kernels, copy not measured",
    });
  });

  test.each([
    ["time", "passed"],
    ["peer", "passed"],
    ["ours", "failed"],
    ["disagrees", "failed"],
  ])("layers: with a row missing because of %j it has %s", (kind, status) => {
    const results = { rows: [{}], missing: [{ kind }] };
    expect(call("judgeLayers", { ...ended(0), results }, false)).toMatchObject({ status, results });
  });

  test("tests: names each run that does not say itself why it failed", () => {
    const runs = [
      { name: "good", ...ended(0), output: "...\n" },
      { name: "has failed", ...ended(1), output: "..\nfailed: dispatch 3\nother\n" },
      { name: "died", ...ended(1), output: "..\n" },
      { name: "hung", ...ended(137, "was ended after 60 s without output"), output: "\nfailed: router 1\n" },
    ];
    expect(call("unexplained", runs)).toMatchObject([{ name: "died" }, { name: "hung" }]);
  });

  test("tests: half a line does not count", () => {
    const lines = ['{"name":"a"}', '{"name":"b","mes{"name":"c"}', '{"name":"d","message":"no"}', '{"na'];
    expect(call("testsIn", lines.join("\n"))).toEqual({ passed: 1, failed: [{ name: "d", message: "no" }] });
  });
});

test("tests are written down one by one", () => {
  const folder = mkdtempSync(join(tmpdir(), "gpu-check-"));
  const file = join(folder, "lines");
  const reporter = new URL("../../scripts/gpu-check/jest-reporter.mjs", import.meta.url).href;
  const script = `
    import LineReporter from ${JSON.stringify(reporter)};
    const reporter = new LineReporter();
    const tell = (fullName, status, ...failureMessages) =>
      reporter.onTestCaseResult({}, { fullName, status, failureMessages });
    tell("a", "passed");
    tell("b", "failed", "\\x1b[31mexpected\\x1b[39m 1", "and 2");
    tell("c", "pending");
    reporter.onTestResult({ path: "d.test.ts" }, { testExecError: { stack: "no such module" } });
    reporter.onTestResult({ path: "e.test.ts" }, {});`;
  const { stdout } = spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
    encoding: "utf8",
    env: { HYPERROUTER_TEST_LINES: file },
  });
  const lines = readFileSync(file, "utf8").trim().split("\n");
  rmSync(folder, { recursive: true });
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
    { name: "a" },
    { name: "b", message: "expected 1\nand 2" },
    { name: "d.test.ts", message: "no such module" },
  ]);
  expect(stdout).toContain("failed: d.test.ts");
});

describe("a program with limits", () => {
  const child = new URL("../../scripts/gpu-check/child.mjs", import.meta.url).href;

  /** How a program ended that starts another, prints for a second and then waits. */
  const howItEnds = (limits: object): { how: string; output: string; isOtherAlive: boolean } => {
    const program = `
      const other = require("child_process").spawn("sleep", ["60"], { stdio: "ignore" });
      console.log(other.pid);
      const timer = setInterval(() => console.log("on"), 100);
      setTimeout(() => clearInterval(timer), 1000);
      setTimeout(() => undefined, 60000);`;
    const script = `
      import { runFor } from ${JSON.stringify(child)};
      const limits = { log: "/dev/null", ...${JSON.stringify(limits)} };
      console.log(JSON.stringify(await runFor(limits, process.execPath, ["-e", ${JSON.stringify(program)}])));`;
    const args = ["--input-type=module", "--eval", script];
    const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
    const run = JSON.parse(stdout.trim().split("\n").at(-1)!) as { how: string; output: string };
    return { ...run, isOtherAlive: isAlive(Number(run.output.split("\n")[0])) };
  };

  const isAlive = (pid: number): boolean => {
    try {
      // A zombie has been ended, even if nobody has asked for its status.
      return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
    } catch {
      return false;
    }
  };

  test.each([
    [{ seconds: 3 }, /^was ended after 3 s$/],
    [{ seconds: 30, quietSeconds: 2 }, /^was ended after 2 s without output$/],
  ])("%j: it ends with all it has started", (limits, how) => {
    const run = howItEnds(limits);
    expect(run.how).toMatch(how);
    expect(run.output).toMatch(/on\n(.*\n)*on\n/);
    expect(run.isOtherAlive).toBe(false);
  });
});
