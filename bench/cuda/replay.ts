// node --import ./scripts/typescript.mjs bench/cuda/replay.ts --json file [--quick]: trains the published model for a few
// steps, several times from the same seed, and compares all parameters bit for bit.
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";

import { type Device, openDevice } from "../../lib/device.js";
import { type ProductDType, productDTypes } from "../../lib/dtype.js";
import { writeResults } from "../results-file.js";
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

interface Replay {
  dtype: ProductDType;
  steps: number;
  /** Of each run that came to its end. */
  digests: string[];
  isSame: boolean;
  /** Why it did not come to its end. */
  reason?: string;
}

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
const replays: Replay[] = [];
for (const dtype of productDTypes) {
  replays.push(await replay(dtype));
  if (values.json !== undefined) await writeResults(values.json, { replays });
}
process.exitCode = replays.every(({ isSame }) => isSame) ? 0 : 1;

async function replay(dtype: ProductDType): Promise<Replay> {
  const digests: string[] = [];
  try {
    const device = openDevice("cuda", { dtype });
    for (let run = 0; run < numReplays; run += 1) digests.push(await trainedDigest(device, sizes));
  } catch (error) {
    console.error(error);
    return { dtype, steps: topKs.length, digests, isSame: false, reason: String(error) };
  }
  const isSame = new Set(digests).size === 1;
  const bits = isSame ? "the same bits" : "other bits";
  console.log(`${dtype}: ${topKs.length} steps ${numReplays} times, ${bits}`);
  return { dtype, steps: topKs.length, digests, isSame };
}
