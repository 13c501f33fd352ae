import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";

import { afterEach, describe, expect, test } from "@jest/globals";

import { Progress } from "../../lib/cli/progress.js";
import { bar, byteSize, count, duration, Terminal } from "../../lib/cli/terminal.js";
import type { Evaluation } from "../../lib/train/evaluate.js";
import type { StepEvent } from "../../lib/train/events.js";

function collector(): { stream: Writable; text: () => string } {
  let text = "";
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return { stream, text: () => text };
}

/** Collects what is written, as a terminal of 60 columns or a pipe. */
function output(isTTY: boolean): { terminal: Terminal; text: () => string; errors: () => string } {
  const [out, errors] = [collector(), collector()];
  const terminal = new Terminal(Object.assign(out.stream, { isTTY, columns: 60 }), errors.stream);
  return { terminal, text: out.text, errors: errors.text };
}

const escape = String.fromCharCode(27);
const event: StepEvent = {
  type: "step",
  ...{ step: 1, loss: Math.LN2 * 3, auxLoss: 0, gradNorm: 1, lr: 1e-3, topK: 4, tokens: 2048, seconds: 0.1 },
  routerEntropy: [2, 1],
};
const evaluated = {
  type: "evaluation",
  step: 7,
  isBestDense: false,
  evaluationsSinceBest: 0,
  seconds: 1,
} as const;
const evaluation = (topK: number, bpc: number): Evaluation => ({
  ...{ topK, bpc, nats: bpc * Math.LN2, perplexity: 2 ** bpc, tokens: 10, routerEntropy: [], expertLoad: [] },
});
const noColor = process.env["NO_COLOR"];
afterEach(() => {
  if (noColor === undefined) delete process.env["NO_COLOR"];
  else process.env["NO_COLOR"] = noColor;
});

describe("output", () => {
  test("to a pipe is plain lines", () => {
    const { terminal, text } = output(false);
    terminal.heading("Title");
    terminal.pairs([
      ["a", "1"],
      ["longer", "2"],
    ]);
    terminal.status("never seen");
    expect(text()).toBe("\nTitle\n  a       1\n  longer  2\n");
  });

  test("to a terminal is styled, unless NO_COLOR says no", () => {
    delete process.env["NO_COLOR"];
    const styled = output(true);
    styled.terminal.heading("Title");
    expect(styled.text()).toContain(`${escape}[1mTitle${escape}[0m`);
    process.env["NO_COLOR"] = "1";
    const plain = output(true);
    plain.terminal.heading("Title");
    expect(plain.text()).toBe("\nTitle\n");
  });

  test("aligns tables", () => {
    const { terminal, text } = output(false);
    terminal.table(
      ["k", "bits"],
      [
        ["16", "2.5"],
        ["2", "12.75"],
      ],
    );
    expect(text()).toBe("  k    bits\n  16    2.5\n  2   12.75\n");
  });

  test("redraws the status line, cut to the width, and clears it before other output", () => {
    const { terminal, text } = output(true);
    terminal.status("x".repeat(100));
    terminal.print("done");
    const clear = `\r${escape}[2K`;
    expect(text()).toBe(`${clear}${"x".repeat(59)}${clear}done\n`);
  });
});

describe("progress", () => {
  const options = { steps: 10, done: 0, maxSeconds: 100, logEvery: 5 };

  test("shows loss, bits per character, speed, time left, k and entropy", () => {
    const { terminal, text } = output(false);
    new Progress(terminal, options).step(event);
    expect(text()).toMatch(
      /^ {2}step {2}1\/10 {2}loss 2\.079 {2}bpc 3\.000 {2}\s*\d+ tok\/s {2}left \d+:\d\d {2}k {2}4 {2}entropy 1\.500\n$/,
    );
  });

  test("is a bar in a terminal, and has neither k nor entropy without routers", () => {
    const { terminal, text } = output(true);
    new Progress(terminal, { ...options, steps: 2 }).step({ ...event, topK: 0, routerEntropy: [] });
    expect(text()).toContain("[############............] 1/2");
    expect(text()).not.toMatch(/entropy| k /);
  });

  test("reckons with the steps that were done before", () => {
    const { terminal, text } = output(false);
    new Progress(terminal, { ...options, steps: 1_000_001, done: 1_000_000 }).step({
      ...event,
      step: 1_000_001,
    });
    expect(text()).toContain("left 0:00");
  });

  test("goes to the log once per interval, whatever the terminal shows", async () => {
    const log = join(await mkdtemp(join(tmpdir(), "hyperrouter-")), "log.txt");
    const { terminal, text } = output(true);
    terminal.logTo(log);
    const progress = new Progress(terminal, options);
    for (let step = 1; step <= 10; step += 1) progress.step({ ...event, step });
    terminal.print(terminal.bold("done"));
    const lines = (await readFile(log, "utf8")).split("\n");
    expect(lines.map((line) => line.replace(/ {2}loss.*/, "").trim())).toEqual([
      "step  5/10",
      "step 10/10",
      "done",
      "",
    ]);
    expect(text().match(/10\/10/g)).toHaveLength(1);
  });

  test("tells evaluations", () => {
    const { terminal, text } = output(false);
    const progress = new Progress(terminal, options);
    const [base, dense] = [evaluation(2, 1.5), evaluation(4, 1.25)];
    progress.evaluation({ ...evaluated, base, dense, isBest: true });
    progress.evaluation({ ...evaluated, base: dense, dense, isBest: false });
    expect(text()).toBe(
      "  validation after step 7: bpc 1.500 with k = 2, 1.250 with all experts  (best so far)\n" +
        "  validation after step 7: bpc 1.250 with k = 4\n",
    );
  });
});

test("a log that cannot be written is given up with a warning", () => {
  const { terminal, text, errors } = output(false);
  terminal.logTo("/dev/full");
  terminal.print("one");
  terminal.print("two");
  expect(text()).toBe("one\ntwo\n");
  expect(errors()).toBe("warning: /dev/full cannot be written: no space left on the device\n");
});

test("numbers for people", () => {
  expect(bar(0.5, 4)).toBe("[##..]");
  expect(bar(7, 4)).toBe("[####]");
  expect(duration(65)).toBe("1:05");
  expect(duration(3723)).toBe("1:02:03");
  expect(duration(-1)).toBe("0:00");
  expect(count(1234567)).toBe("1,234,567");
  expect([12, 1234, 5_678_901].map(byteSize)).toEqual(["12 bytes", "1.23 kB", "5.68 MB"]);
});
