// Running a program with a time limit: its output goes to the terminal and to a log file.
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { constants } from "node:os";
import { root } from "../command.mjs";

const signals = ["SIGINT", "SIGTERM"];

/**
 * @param log The file for its output.
 * @param seconds After which it is ended, together with all it started.
 * @returns `{ status, output, inTime }`
 */
export function runFor(seconds, log, file, args, env = {}) {
  const out = createWriteStream(log);
  const child = spawn(file, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true, // a group of its own, which can be ended as a whole
  });
  const end = () => process.kill(-child.pid, "SIGKILL");
  const interrupted = (signal) => {
    end();
    process.exit(128 + constants.signals[signal]);
  };
  for (const signal of signals) process.once(signal, interrupted);
  let output = "";
  let inTime = true;
  const timer = setTimeout(() => {
    inTime = false;
    end();
  }, seconds * 1000);
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      output += text;
      out.write(text);
      process.stdout.write(text);
    });
  }
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      for (const signal of signals) process.off(signal, interrupted);
      out.end();
    };
    child.on("error", (error) => {
      stop();
      reject(error);
    });
    child.on("close", (status, signal) => {
      stop();
      resolve({ status: status ?? 128 + constants.signals[signal], output, inTime });
    });
  });
}
