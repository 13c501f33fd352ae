// Trains in worker threads: `two` at once, to their ends; `terminate` five, each in the middle of a step; or `exit`s
// the process in the middle of a step. Prints what happened.
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { train } from "hyperrouter";

const [how, config, ...folders] = isMainThread ? process.argv.slice(2) : workerData;

function startWorker(folder) {
  return new Worker(new URL(import.meta.url), { workerData: [how, config, folder] });
}

function message(worker) {
  return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
}

async function trainIn(folder, onStep) {
  const run = await train.openRun(train.parseConfig(JSON.parse(config)), { checkpoints: folder });
  const end = await run.trainer.train({ steps: run.config.train.steps, onStep });
  await run.close();
  return end.step;
}

if (!isMainThread) {
  const step = await trainIn(
    folders[0],
    ({ step }) => how === "terminate" && step === 2 && parentPort.postMessage(step),
  );
  parentPort.postMessage(step);
} else if (how === "two") {
  console.log((await Promise.all(folders.map((folder) => message(startWorker(folder))))).join(" "));
} else if (how === "terminate") {
  let terminated = 0;
  for (const folder of folders) {
    const worker = startWorker(folder);
    await message(worker);
    await new Promise((resolve) => setTimeout(resolve, 7 * terminated));
    if ((await worker.terminate()) === 1) terminated += 1;
  }
  console.log(`${terminated} terminated`);
} else {
  await trainIn(folders[0], ({ step }) => step === 2 && setTimeout(() => process.exit(3), 15));
}
