// A jest reporter that adds a line to a file, $HYPERROUTER_TEST_LINES, as soon as a test has run.
import { appendFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";

const longest = 2000;

export default class LineReporter {
  onTestCaseResult(_, { fullName, status, failureMessages }) {
    if (status === "passed") this.#add({ name: fullName });
    if (status === "failed") this.#add({ name: fullName, message: failureMessages.join("\n") });
  }

  /** A file that does not run has no tests. */
  onTestResult({ path }, { testExecError }) {
    if (testExecError) this.#add({ name: path, message: testExecError.stack ?? String(testExecError) });
  }

  #add({ name, message }) {
    const line = message && { message: stripVTControlCharacters(message).slice(0, longest) };
    appendFileSync(process.env.HYPERROUTER_TEST_LINES, `${JSON.stringify({ name, ...line })}\n`);
    process.stdout.write(message ? `\nfailed: ${name}\n${message.slice(0, longest)}\n` : ".");
  }
}
