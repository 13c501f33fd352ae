import { Writable } from "node:stream";

import { afterEach, describe, expect, test } from "@jest/globals";

import { Progress } from "../../lib/cli/progress.js";
import { bar, count, duration, Terminal } from "../../lib/cli/terminal.js";
import type { StepEvent } from "../../lib/train/events.js";

/** Collects what is written, as a terminal of 60 columns or a pipe. */
function output(isTTY: boolean): { terminal: Terminal; text: () => string } {
  let text = "";
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return { terminal: new Terminal(Object.assign(stream, { isTTY, columns: 60 })), text: () => text };
}

const escape = String.fromCharCode(27);
const event: StepEvent = {
  type: "step",
  ...{ step: 1, loss: Math.LN2 * 3, auxLoss: 0, gradNorm: 1, lr: 1e-3, topK: 4, tokens: 2048, seconds: 0.1 },
  routerEntropy: [2, 1],
};
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
  test("shows loss, bits per character, speed, time left, k and entropy", () => {
    const { terminal, text } = output(false);
    new Progress(terminal, 10, 100).update(event);
    expect(text()).toMatch(
      /^ {2}step {2}1\/10 {2}loss 2\.079 {2}bpc 3\.000 {2}\s*\d+ tok\/s {2}left \d+:\d\d {2}k {2}4 {2}entropy 1\.500\n$/,
    );
  });

  test("is a bar in a terminal, and has no entropy without routers", () => {
    const { terminal, text } = output(true);
    new Progress(terminal, 2, 100).update({ ...event, routerEntropy: [] });
    expect(text()).toContain("[############............] 1/2");
    expect(text()).not.toContain("entropy");
  });
});

test("numbers for people", () => {
  expect(bar(0.5, 4)).toBe("[##..]");
  expect(bar(7, 4)).toBe("[####]");
  expect(duration(65)).toBe("1:05");
  expect(duration(3723)).toBe("1:02:03");
  expect(duration(-1)).toBe("0:00");
  expect(count(1234567)).toBe("1,234,567");
});
