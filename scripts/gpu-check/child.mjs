// Running a program with a time limit: its output goes to the terminal and to a log file.
import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { constants } from "node:os";
import { root } from "../command.mjs";

const signals = ["SIGINT", "SIGTERM"];
const running = new Set();

for (const signal of signals) {
  process.once(signal, () => {
    for (const end of running) end();
    process.exit(128 + constants.signals[signal]);
  });
}

/**
 * @param limits `seconds` after which it is ended, together with all it started, or `quietSeconds` without output;
 *   `log`: the file to which its output is added.
 * @returns `{ status, output, how }`, how it ended in words.
 */
export function runFor({ seconds, quietSeconds = seconds, log }, file, args, env = {}) {
  const child = spawn(file, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own, which can be ended as a whole
  });
  let output = "";
  let how;
  const end = (reason) => {
    how ??= reason;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  running.add(end);
  const timer = setTimeout(() => end(`was ended after ${Math.round(seconds)} s`), 1000 * seconds);
  const quiet = setTimeout(
    () => end(`was ended after ${quietSeconds} s without output`),
    1000 * Math.min(quietSeconds, seconds),
  );
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      quiet.refresh();
      output += text;
      appendFileSync(log, text);
      process.stdout.write(text);
    });
  }
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      clearTimeout(quiet);
      running.delete(end);
    };
    child.on("error", (error) => {
      stop();
      reject(error);
    });
    const finish = () => {
      stop();
      const status = child.exitCode ?? 128 + constants.signals[child.signalCode];
      resolve({ status, output, how: how ?? `ended with status ${status}` });
    };
    child.on("close", finish);
    // What it started and left behind may hold its output open.
    child.on("exit", () => setTimeout(finish, 2000));
  });
}
