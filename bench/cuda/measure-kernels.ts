import { openDevice } from "../../lib/device.js";
import { type ProductDType, productDTypes } from "../../lib/dtype.js";
import type { Device } from "../../lib/device.js";
import { scope } from "../../lib/scope.js";
import { median, quantile } from "../statistics.js";
import { deviceSeconds, pipelineSeconds } from "./device-timer.js";
import { copyName, type KernelFamily, rotatingCases, type RotatingCase } from "./kernel-cases.js";

/** How much to measure. A sample is several calls. */
export interface Effort {
  warmUps: number;
  rounds: number;
  fewestCalls: number;
  mostCalls: number;
  /** A sample has so many calls that it takes about this long. */
  sampleSeconds: number;
  /** Of all samples of one kernel, which may have fewer calls for it. */
  mostSeconds: number;
}

export const fullEffort: Effort = {
  ...{ warmUps: 20, rounds: 20, fewestCalls: 5, mostCalls: 100 },
  ...{ sampleSeconds: 1e-3, mostSeconds: 2 },
};
export const quickEffort: Effort = {
  ...{ warmUps: 1, rounds: 2, fewestCalls: 1, mostCalls: 1 },
  ...{ sampleSeconds: 0, mostSeconds: 0 },
};

/** How long one kernel took, in seconds a call on the device's clock. */
export interface KernelResult {
  name: string;
  size: KernelFamily["size"];
  dtype: ProductDType;
  bytes: number;
  /** 0 where memory bounds it. */
  flops: number;
  seconds: { median: number; p10: number; p90: number };
  /** The same with nothing queued in front: no faster than the host queues. */
  pipelineSeconds: number;
  /** The least that its bytes and its arithmetic take, at the rates of {@link KernelReport}. */
  floorSeconds: number;
  bound: "memory" | "arithmetic";
  numSets: number;
  callsPerSample: number;
  samples: { device: number[]; pipeline: number[] };
}

/** Everything one run found out. */
export interface KernelReport {
  device: string;
  rates: { copyBytesPerSecond: number; flopsPerSecond: Partial<Record<ProductDType, number>> };
  rows: KernelResult[];
  /** The first kernel at the end of the run, beside its time at the beginning. */
  drift: { name: string; first: number; last: number };
  failures: { size: KernelFamily["size"]; dtype: ProductDType; reason: string }[];
}

export async function measureKernels(
  families: readonly KernelFamily[],
  effort: Effort,
): Promise<KernelReport> {
  const failures: KernelReport["failures"] = [];
  const measured: Measured[] = [];
  for (const dtype of productDTypes) {
    const wanted = families.filter(({ hasProducts }) => hasProducts || dtype === "f32");
    measured.push(...(await measureOn(dtype, wanted, effort, failures)));
  }
  const [first] = measured;
  const [last] = await measureOn("f32", families.slice(0, 1), effort, failures);
  if (!first || !last) throw new Error(`no kernel could be measured: ${JSON.stringify(failures)}`);
  const rates = ratesOf(measured);
  return {
    device: openDevice("cuda").description,
    rates,
    rows: measured.map((each) => withFloor(each, rates)),
    drift: { name: first.name, first: first.seconds.median, last: last.seconds.median },
    failures,
  };
}

type Measured = Omit<KernelResult, "floorSeconds" | "bound">;

/** Samples the cases of all families in turn, so that changes of the clock meet all alike. */
function measureOn(
  dtype: ProductDType,
  families: readonly KernelFamily[],
  effort: Effort,
  failures: KernelReport["failures"],
): Promise<Measured[]> {
  const device = openDevice("cuda", { dtype });
  return scope(async () => {
    const timers: KernelTimer[] = [];
    for (const family of families) {
      try {
        const cases = rotatingCases(family, device);
        const own = cases.map((kernelCase) => new KernelTimer(kernelCase, device, effort));
        for (const timer of own) await timer.warmUp();
        timers.push(...own);
      } catch (error) {
        failures.push({ size: family.size, dtype, reason: String(error) });
      }
    }
    const failed = new Set<KernelTimer>();
    for (let round = 0; round < effort.rounds; round += 1) {
      for (const timer of timers.filter((each) => !failed.has(each))) {
        try {
          await timer.sample();
        } catch (error) {
          failed.add(timer);
          failures.push({ size: timer.of.size, dtype, reason: `${timer.of.name}: ${String(error)}` });
        }
      }
    }
    return timers.filter((timer) => !failed.has(timer)).map((timer) => timer.result(dtype));
  });
}

/** One kernel on one device. */
class KernelTimer {
  readonly #samples: KernelResult["samples"] = { device: [], pipeline: [] };
  #calls = 1;

  constructor(
    readonly of: RotatingCase,
    private readonly device: Device,
    private readonly effort: Effort,
  ) {}

  async warmUp(): Promise<void> {
    const { warmUps, rounds, fewestCalls, mostCalls, sampleSeconds, mostSeconds } = this.effort;
    const seconds = await deviceSeconds(this.device, this.of.queue, warmUps);
    const wanted = Math.max(fewestCalls, Math.min(mostCalls, Math.round(sampleSeconds / seconds)));
    this.#calls = Math.max(1, Math.min(wanted, Math.floor(mostSeconds / rounds / seconds)));
  }

  async sample(): Promise<void> {
    this.#samples.device.push(await deviceSeconds(this.device, this.of.queue, this.#calls));
    this.#samples.pipeline.push(await pipelineSeconds(this.device, this.of.queue, this.#calls));
  }

  result(dtype: ProductDType): Measured {
    const { name, size, work, numSets } = this.of;
    const { device, pipeline } = this.#samples;
    return {
      ...{ name, size, dtype, bytes: work.bytes, flops: "flops" in work ? work.flops : 0 },
      seconds: { median: median(device), p10: quantile(device, 0.1), p90: quantile(device, 0.9) },
      pipelineSeconds: median(pipeline),
      ...{ numSets, callsPerSample: this.#calls, samples: this.#samples },
    };
  }
}

/** What the GPU can do: the copy's bytes per second, and the fastest product's arithmetic for each dtype. */
function ratesOf(measured: readonly Measured[]): KernelReport["rates"] {
  const machine = measured.filter(({ size }) => size === "machine");
  const best = (wanted: (of: Measured) => boolean, amount: (of: Measured) => number): number =>
    Math.max(0, ...machine.filter(wanted).map((of) => amount(of) / of.seconds.median));
  const flopsPerSecond = productDTypes.map((dtype) => [
    dtype,
    best(
      (of) => of.dtype === dtype,
      ({ flops }) => flops,
    ),
  ]);
  return {
    copyBytesPerSecond: best(
      ({ name }) => name === copyName,
      ({ bytes }) => bytes,
    ),
    flopsPerSecond: Object.fromEntries(flopsPerSecond) as Record<ProductDType, number>,
  };
}

function withFloor(
  measured: Measured,
  { copyBytesPerSecond, flopsPerSecond }: KernelReport["rates"],
): KernelResult {
  const memory = measured.bytes / copyBytesPerSecond;
  const arithmetic = measured.flops / (flopsPerSecond[measured.dtype] ?? Infinity);
  return {
    ...measured,
    floorSeconds: Math.max(memory, arithmetic),
    bound: arithmetic > memory ? "arithmetic" : "memory",
  };
}
