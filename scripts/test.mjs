// npm test: set-up, then jest in native-ESM mode. Further arguments go to jest (npm test -- router).
// --no-setup skips the set-up.
import { join } from "node:path";
import { main, root, run } from "./command.mjs";
import { setup } from "./setup.mjs";

await main(() => {
  const args = process.argv.slice(2).filter((arg) => arg !== "--no-setup");
  if (args.length === process.argv.length - 2) setup({ cuda: true });
  const jest = join(root, "node_modules", "jest", "bin", "jest.js");
  // --no-warnings hides the notice about vm modules being experimental, which jest needs for ES modules.
  const flags = ["--experimental-vm-modules", "--no-warnings=ExperimentalWarning"];
  process.exitCode = run(process.execPath, [...flags, jest, ...args]);
});
