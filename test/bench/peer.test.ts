import { readFileSync } from "node:fs";

import { afterEach, beforeEach, expect, test } from "@jest/globals";

import { Peer } from "../../bench/peers/peer.js";

const echo = `
  console.log(JSON.stringify({ pid: process.pid, greeting: process.env.GREETING }));
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const request = JSON.parse(line);
    console.log(JSON.stringify(request.call === "fail" ? { error: "no" } : { echoed: request }));
  });`;

let peer: Peer;

beforeEach(async () => {
  peer = await Peer.start({ command: process.execPath, args: ["-e", echo], env: { GREETING: "hello" } });
});

afterEach(() => peer.end());

test("answers calls, and says what fails", async () => {
  expect(peer.description).toMatchObject({ greeting: "hello" });
  expect(await peer.call("load", { file: "a" })).toEqual({ echoed: { call: "load", file: "a" } });
  await expect(peer.call("fail", {})).rejects.toThrow(/^fail failed in .*"no"$/s);
  expect(await peer.call("load", {})).toEqual({ echoed: { call: "load" } });
});

test("is stopped between calls", async () => {
  await peer.call("load", {});
  if (process.platform !== "linux") return;
  await new Promise((resolve) => setTimeout(resolve, 50));
  // The field after the name in brackets: T is stopped.
  expect(readFileSync(`/proc/${String(peer.description["pid"])}/stat`, "utf8")).toMatch(/\) T /);
});

test("may be ended when it is gone already, as often as one likes", async () => {
  await peer.end();
  await peer.end();
});

test("a program that only ends is an error", async () => {
  const program = { command: process.execPath, args: ["-e", ""], env: {} };
  await expect(Peer.start(program)).rejects.toThrow(/ended before it replied/);
});
