// node --import ./scripts/typescript.mjs bench/cuda/replay.ts --json file [--quick]: trains the published model for a few
// steps, several times from the same seed, and compares all parameters bit for bit.
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { type Device, openDevice } from "../../lib/device.js";
import { productDTypes } from "../../lib/dtype.js";
import { fullTasks, quickTasks } from "../tasks.js";
import { TrainingStep, type TrainingSizes } from "../training-step.js";

const numReplays = 3;
/** Experts per token of each step: few, many, all. */
const topKs = [2, 8, 16];

const { training } = fullTasks;
const published: TrainingSizes = {
  model: { ...training.model, vocabSize: 204, memLen: 512 },
  seqLen: 512,
  batchSize: 22,
};

/** A digest of what was trained, bit for bit. */
async function trainedDigest(device: Device, sizes: TrainingSizes): Promise<string> {
  const step = new TrainingStep(device, sizes);
  for (const topK of topKs) await step.run(topK);
  const hash = createHash("sha256");
  for (const [name, { data }] of await step.inputs()) hash.update(name).update(data);
  step.dispose();
  return hash.digest("hex");
}

const { values } = parseArgs({
  options: { json: { type: "string" }, quick: { type: "boolean", default: false } },
});
const sizes = values.quick ? quickTasks.training : published;
const replays = [];
for (const dtype of productDTypes) {
  const device = openDevice("cuda", { dtype });
  const digests: string[] = [];
  for (let replay = 0; replay < numReplays; replay += 1) digests.push(await trainedDigest(device, sizes));
  const isSame = new Set(digests).size === 1;
  replays.push({ dtype, steps: topKs.length, digests, isSame });
  console.log(
    `${dtype}: ${topKs.length} steps ${numReplays} times, ${isSame ? "the same bits" : "other bits"}`,
  );
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ replays })}\n`);
process.exitCode = replays.every(({ isSame }) => isSame) ? 0 : 1;
