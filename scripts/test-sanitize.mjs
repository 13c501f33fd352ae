// npm run test:sanitize: the op, native, training and CUDA tests on an addon with AddressSanitizer and UBSan, the GPU
// emulated. Anything they report ends the process, and so fails the test. Further arguments replace the list of tests.
import { join } from "node:path";
import { capture, CommandError, main, root, run } from "./command.mjs";
import { setup } from "./setup.mjs";

const tests = [
  ...["test/ops/devices", "test/ops/errors", "test/native/streams", "test/native/malformed-calls"],
  ...["test/train/trainer", "test/nn/generate", "test/cuda"],
  ...["test/emulator/backend", "test/emulator/transfers"],
];

/** The run-time libraries of the sanitizers must be in the process before the addon is. */
function runtimes() {
  return ["libasan.so", "libubsan.so", "libstdc++.so.6"].map((name) => {
    const { output } = capture("g++", [`-print-file-name=${name}`]);
    const path = output.trim();
    if (path === name)
      throw new CommandError(`g++ has no ${name}. Install it with GCC, then run this again.`);
    return path;
  });
}

await main(() => {
  setup();
  const build = [join(root, "scripts", "build-native.mjs"), "--sanitize", "--emulated"];
  process.exitCode = run(process.execPath, build);
  if (process.exitCode) return;
  const args = process.argv.slice(2);
  const env = {
    ...process.env,
    HYPERROUTER_BINDING: join(root, "build", "sanitize", "Release", "hyperrouter-emulated.node"),
    LD_PRELOAD: runtimes().join(" "),
    // Node itself keeps memory until it ends.
    ASAN_OPTIONS: "detect_leaks=0:halt_on_error=1",
    UBSAN_OPTIONS: "halt_on_error=1:print_stacktrace=1",
  };
  const script = join(root, "scripts", "test.mjs");
  process.exitCode = run(
    process.execPath,
    [script, "--no-setup", "--testTimeout=600000", ...(args.length ? args : tests)],
    { env },
  );
});
