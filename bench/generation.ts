import { openDevice } from "../lib/device.js";
import type { TransformerXL } from "../lib/nn/transformer-xl.js";
import { parseConfig } from "../lib/train/config.js";
import { buildModel } from "../lib/train/run.js";
import type { MachinePeak } from "./machine-peak.js";
import { median } from "./statistics.js";

/** How fast a small model writes, beside the time that only reading its weights takes. */
export interface GenerationResult {
  experts: number;
  threads: number;
  secondsPerToken: number;
  /** What one token reads: see {@link weightBytes}. */
  bytesPerToken: number;
  /** At the rate at which this machine sums so many bytes. */
  floorSecondsPerToken: number;
  ratio: number;
  samples: { secondsPerToken: number[]; bytesPerSecond: number[] };
}

const topKs = [2, 8];
const vocabSize = 128;

/** Lets the quickstart's model generate `tokens` tokens in each round. Its speed does not depend on its weights. */
export async function measureGeneration(
  peak: MachinePeak,
  { rounds, tokens }: { rounds: number; tokens: number },
): Promise<GenerationResult[]> {
  const { threads } = openDevice();
  const model = buildModel(parseConfig({}), vocabSize).eval();
  const cases = topKs.map((experts) => ({
    experts,
    bytes: weightBytes(model, experts),
    samples: { secondsPerToken: [] as number[], bytesPerSecond: [] as number[] },
  }));
  for (let round = 0; round < rounds; round += 1) {
    for (const { experts, bytes, samples } of cases) {
      samples.bytesPerSecond.push(peak.read(threads, bytes).perSecond);
      samples.secondsPerToken.push(await secondsPerToken(model, experts, tokens));
    }
  }
  model.dispose();
  return cases.map(({ experts, bytes, samples }) => {
    const seconds = median(samples.secondsPerToken);
    const floor = bytes / median(samples.bytesPerSecond);
    return {
      ...{ experts, threads, secondsPerToken: seconds, bytesPerToken: bytes },
      ...{ floorSecondsPerToken: floor, ratio: seconds / floor, samples },
    };
  });
}

async function secondsPerToken(model: TransformerXL, experts: number, tokens: number): Promise<number> {
  const start = performance.now();
  for await (const _ of model.generate([0], { maxTokens: tokens, experts }));
  return (performance.now() - start) / 1000 / tokens;
}

/**
 * The weights that one token needs, each once: all but the hypernetworks, in whose place are the routers they have
 * generated, and the experts that the token does not go to. The embedding table counts once, as the softmax's matrix.
 */
function weightBytes(model: TransformerXL, experts: number): number {
  const { routers } = model;
  if (!routers) return 0;
  let count = 0;
  for (const [name, { size, shape }] of model.namedParameters()) {
    if (name.includes(".experts.")) count += (size * experts) / routers.numExperts;
    else if (!name.startsWith("routers.")) count += size;
    if (name.endsWith(".experts.w1")) count += routers.numExperts * ((shape.at(-1) ?? 0) + 1);
  }
  return 4 * count;
}
