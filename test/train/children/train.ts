// Trains, resuming from the folder's latest checkpoint. Prints a line of JSON per event, then a digest of the model.
import { parseConfig, type RunConfigInput } from "../../../lib/train/config.js";
import { openRun } from "../../../lib/train/run.js";
import { modelDigest } from "../../support/tiny-run.js";

const [config = "{}", checkpoints = ""] = process.argv.slice(2);
const run = await openRun(parseConfig(JSON.parse(config) as RunConfigInput), { checkpoints, resume: true });
try {
  for await (const event of run.train()) console.log(JSON.stringify(event));
  console.log(JSON.stringify({ type: "digest", digest: await modelDigest(run.model) }));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  await run.close();
}
