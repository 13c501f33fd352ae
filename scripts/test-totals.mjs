// node scripts/test-totals.mjs results.json: one line with the totals of a `jest --json` run. A test file that
// could not run counts as one failed test, and so does a missing results file. Fails unless all tests passed.
import { existsSync, readFileSync } from "node:fs";

const file = process.argv[2];
const none = {
  numPassedTests: 0,
  numFailedTests: 0,
  numRuntimeErrorTestSuites: 1,
  numPendingTests: 0,
  numTodoTests: 0,
};
const results = file && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : none;

const passed = results.numPassedTests;
const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
const skipped = results.numPendingTests + results.numTodoTests;
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
