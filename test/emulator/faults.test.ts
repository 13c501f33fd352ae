import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { expect, test } from "@jest/globals";
import { nativePath } from "../../lib/native.js";

// What the emulator says of kernels that are wrong on purpose (faults/faults.cpp), whatever order it draws.
const said: [string, RegExp][] = [
  ["ReturnBeforeBarrier", /deadlock\..* waits in barrier at faults\.cpp:\d+; thread 37 .* has returned/],
  ["TwoBarriers", /thread \d+ .* reached another barrier than thread \d+ \(faults\.cpp:\d+\)/],
  ["BarrierOfOneWarp", /deadlock\..* waits in barrier .* waits in warp_barrier/],
  ["DivergentWarp", /calls warp_(shuffle|ballot), but thread \d+ .* waits in warp_(shuffle|ballot)/],
  ["SharedMemoryOverrun", /wrote outside of its 128 bytes of shared memory, 128 bytes from its start/],
  ["SharedMatrixOverrun", /touches shared memory \d+ bytes from its start, of 128/],
  ["GlobalOverrun", /wrote past the end of an allocation of 256 bytes/],
  ["Misaligned", /accesses 16 bytes at an address that is not a multiple of 16/],
  ["MisalignedCopy", /copies 16 bytes from an address that is not a multiple of them/],
  ["TooManyBytes", /copies 8 of 4 bytes/],
  ["CopyWithoutWait", /returned before its asynchronous copies arrived/],
  ["HalfAWarp", /a block of 48 threads; expected a multiple of 32 up to 1024/],
];

test.each(["1", "2", "3"])("faults are found and named, seed %s", (seed) => {
  const env = { ...process.env, HYPERROUTER_EMULATOR_SEED: seed };
  const program = join(dirname(nativePath()), "emulator_faults");
  const lines = execFileSync(program, { env, encoding: "utf8" }).trim().split("\n");
  expect(lines).toEqual([
    ...said.map(([kernel, text]) =>
      expect.stringMatching(new RegExp(`^kernel ${kernel}[, :].*${text.source}`)),
    ),
    "no error",
  ]);
});
