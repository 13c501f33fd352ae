// npm run test:soak [steps]: trains a tiny model for 10,000 steps, with evaluations and checkpoints, and fails unless
// memory is flat. Not part of `npm test`: it takes minutes.
import { openRun } from "../../lib/train/run.js";
import { newFolder, tinyConfig, tinyTextFile } from "../support/tiny-run.js";

const [steps = 10_000] = process.argv.slice(2).map(Number);
const samples = 20;
const every = Math.ceil(steps / samples);
const collectGarbage = (globalThis as { gc?: () => void }).gc ?? (() => undefined);

interface Sample {
  /** On the device, live. */
  liveBytes: number;
  tensors: number;
  /** JavaScript objects and array buffers. */
  heapBytes: number;
  /** Of the process. */
  residentBytes: number;
}

const run = await openRun(
  tinyConfig(await tinyTextFile(), {
    model: { dropout: 0.1 },
    train: { steps, accumulation: 2 },
    evaluation: { every, maxBatches: 2 },
    checkpoint: { every },
  }),
  { checkpoints: await newFolder() },
);
const { device } = run.model;

function measure(): Sample {
  collectGarbage();
  const { liveBytes, tensors } = device.memoryStats();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return { liveBytes, tensors, heapBytes: heapUsed + arrayBuffers, residentBytes: rss };
}

const megabytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(2).padStart(9);

console.log("     step  live MB  tensors  heap MB  resident MB");
const measured: Sample[] = [];
for await (const event of run.train()) {
  if (event.type !== "step" || event.step % every !== 0) continue;
  const sample = measure();
  measured.push(sample);
  const { liveBytes, tensors, heapBytes, residentBytes } = sample;
  console.log(
    `${String(event.step).padStart(9)}${megabytes(liveBytes)}${String(tensors).padStart(9)}` +
      `${megabytes(heapBytes)}${megabytes(residentBytes).padStart(13)}`,
  );
}
const { reclaimedByGc } = device.memoryStats();
await run.close();

/** Largest value in the last half as a multiple of that in the half before. The first fifth is for warming up. */
function growth(key: keyof Sample): number {
  const values = measured.slice(samples / 5).map((sample) => sample[key]);
  const middle = Math.floor(values.length / 2);
  return Math.max(...values.slice(middle)) / Math.max(...values.slice(0, middle));
}

const limits: Record<keyof Sample, number> = {
  liveBytes: 1.0,
  tensors: 1.0,
  heapBytes: 1.05,
  residentBytes: 1.05,
};
const grown = (Object.keys(limits) as (keyof Sample)[]).filter((key) => growth(key) > limits[key]);
for (const key of grown) console.error(`${key} grew by a factor of ${growth(key).toFixed(3)}`);
if (reclaimedByGc > 0) console.error(`${String(reclaimedByGc)} tensors were left to the garbage collector`);
console.log(
  `${String(steps)} steps: ${grown.length === 0 && reclaimedByGc === 0 ? "memory is flat" : "FAILED"}`,
);
process.exitCode = grown.length === 0 && reclaimedByGc === 0 ? 0 : 1;
