// Trains, resuming from the folder's latest checkpoint; prints a line of JSON per event. It runs what `npm run build`
// compiled, as a user's program does.
import { train } from "hyperrouter";

const [config, checkpoints] = process.argv.slice(2);
const run = await train.openRun(train.parseConfig(JSON.parse(config)), { checkpoints, resume: true });
try {
  for await (const event of run.train()) console.log(JSON.stringify(event));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await run.close();
}
