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
  /** The {@link KernelFamily} that it was measured with. */
  family: string;
  bytes: number;
  /** 0 where memory bounds it. */
  flops: number;
  seconds: { median: number; p10: number; p90: number };
  /** The same with nothing queued in front: no faster than the host queues. */
  pipelineSeconds: number;
  /** The least that its bytes and its arithmetic take, at the rates of {@link KernelReport}; null without those. */
  floorSeconds: number | null;
  bound: "memory" | "arithmetic" | null;
  numSets: number;
  callsPerSample: number;
  samples: { device: number[]; pipeline: number[] };
}

/** A family on one device. */
export interface FamilyRun {
  size: KernelFamily["size"];
  family: string;
  dtype: ProductDType;
}

/** Everything one run found out, so far. */
export interface KernelReport {
  device: string;
  /** 0 where nothing was measured. */
  rates: { copyBytesPerSecond: number; flopsPerSecond: Partial<Record<ProductDType, number>> };
  rows: KernelResult[];
  /** The first kernel at the end of the run, beside its time at the beginning; null before the end. */
  drift: { name: string; first: number; last: number } | null;
  /** Of those that failed later, the samples before are among the rows. */
  failures: (FamilyRun & { reason: string })[];
  /** Neither measured nor failed. */
  missing: FamilyRun[];
  /** What is tried for the first time just now. A program that ends meanwhile ended because of it. */
  running: FamilyRun | null;
}

export interface KernelRunOptions {
  /** For everything. A kernel then has fewer samples, or none. */
  seconds?: number;
  /** What a run before has measured, which is not measured again. */
  previous?: KernelReport | undefined;
  /** Called whenever there is something new. */
  progress?: (report: KernelReport) => Promise<void>;
}

/** @throws {Error} when the GPU is lost, or nothing could be measured; `progress` has been told what there is. */
export async function measureKernels(
  families: readonly KernelFamily[],
  effort: Effort,
  options: KernelRunOptions = {},
): Promise<KernelReport> {
  const run = new KernelRun(families, effort, options);
  await run.measure();
  return run.report();
}

export type Measured = Omit<KernelResult, "floorSeconds" | "bound">;

class KernelRun {
  readonly #timers: KernelTimer[] = [];
  readonly #failures: KernelReport["failures"];
  readonly #wanted: (FamilyRun & { of: KernelFamily })[];
  #running: FamilyRun | null = null;
  #drift: KernelReport["drift"] = null;

  constructor(
    private readonly families: readonly KernelFamily[],
    private readonly effort: Effort,
    private readonly options: KernelRunOptions,
  ) {
    this.#wanted = productDTypes.flatMap((dtype) =>
      families
        .filter(({ hasProducts }) => hasProducts || dtype === "f32")
        .map((of) => ({ of, size: of.size, family: of.name, dtype })),
    );
    const { failures = [], running = null } = options.previous ?? {};
    this.#failures = [...failures];
    if (running !== null) this.#failures.push({ ...running, reason: "the program did not survive it" });
  }

  report(): KernelReport {
    const measured = [
      ...(this.options.previous?.rows ?? []),
      ...this.#timers.flatMap((timer) => timer.result()),
    ];
    const rates = ratesOf(measured);
    return {
      device: openDevice("cuda").description,
      rates,
      rows: measured.map((each) => withFloor(each, rates)),
      drift: this.#drift,
      failures: this.#failures,
      missing: this.#left(measured).map(({ size, family, dtype }) => ({ size, family, dtype })),
      running: this.#running,
    };
  }

  async measure(): Promise<void> {
    const { seconds = Infinity, previous } = this.options;
    const end = performance.now() + 1000 * seconds;
    for (const [i, dtype] of productDTypes.entries()) {
      const share = (end - performance.now()) / (productDTypes.length - i);
      const wanted = this.#left(previous?.rows ?? []).filter((each) => each.dtype === dtype);
      await this.#measureOn(dtype, wanted, performance.now() + share);
    }
    await this.#measureFirstAgain();
    await this.#tell();
    if (this.report().rows.length === 0)
      throw new Error(`no kernel could be measured: ${JSON.stringify(this.#failures)}`);
  }

  /** Neither measured nor failed. */
  #left(measured: readonly FamilyRun[]) {
    const known = new Set([...measured, ...this.#failures].map(keyOf));
    return this.#wanted.filter((each) => !known.has(keyOf(each)));
  }

  async #tell(): Promise<void> {
    await this.options.progress?.(this.report());
  }

  /** Samples the cases of all families in turn, so that changes of the clock meet all alike. */
  async #measureOn(
    dtype: ProductDType,
    wanted: readonly (FamilyRun & { of: KernelFamily })[],
    end: number,
  ): Promise<void> {
    const device = openDevice("cuda", { dtype });
    const isInTime = (): boolean => performance.now() < end;
    await scope(async () => {
      const timers: KernelTimer[] = [];
      for (const { of, ...run } of wanted) {
        if (!isInTime()) break;
        this.#running = run;
        await this.#tell();
        await this.#guard(device, run, async () => {
          const own = rotatingCases(of, device).map(
            (each) => new KernelTimer(each, run, device, this.effort),
          );
          for (const timer of own) await timer.warmUp();
          timers.push(...own);
        });
        this.#running = null;
      }
      this.#timers.push(...timers);
      let working = timers;
      for (let round = 0; round < this.effort.rounds && (round === 0 || isInTime()); round += 1) {
        const good: KernelTimer[] = [];
        for (const timer of working) {
          const sampled = this.#guard(device, timer.run, () => timer.sample(), `${timer.of.name}: `);
          if (await sampled) good.push(timer);
        }
        working = good;
        await this.#tell();
      }
    });
  }

  /** @returns whether `action` succeeded; else its error is among the failures. @throws {Error} when the GPU is lost. */
  async #guard(device: Device, run: FamilyRun, action: () => Promise<void>, what = ""): Promise<boolean> {
    try {
      await action();
      return true;
    } catch (error) {
      this.#failures.push({ ...run, reason: `${what}${String(error)}` });
      if (!(await isLost(device))) return false;
      this.#running = null;
      await this.#tell();
      throw new Error("the GPU is lost to this program", { cause: error });
    }
  }

  async #measureFirstAgain(): Promise<void> {
    const [first] = this.#timers.flatMap((timer) => timer.result());
    const of = this.families.find(({ name }) => name === first?.family);
    if (!first || !of) return;
    const device = openDevice("cuda", { dtype: first.dtype });
    await scope(async () => {
      await this.#guard(device, first, async () => {
        const again = new KernelTimer(rotatingCases(of, device)[0]!, first, device, this.effort);
        await again.warmUp();
        for (let round = 0; round < this.effort.rounds; round += 1) await again.sample();
        const [last] = again.result();
        if (last) this.#drift = { name: first.name, first: first.seconds.median, last: last.seconds.median };
      });
    });
  }
}

function keyOf({ size, family, dtype }: FamilyRun): string {
  return `${size} ${family} ${dtype}`;
}

/** After a fault that the driver does not forget, nothing that a program does with the GPU succeeds. */
async function isLost(device: Device): Promise<boolean> {
  // The first one may report what is known already.
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      await device.timestamp();
      return false;
    } catch {
      continue;
    }
  }
  return true;
}

/** One kernel on one device. */
class KernelTimer {
  readonly #samples: KernelResult["samples"] = { device: [], pipeline: [] };
  #calls = 1;

  constructor(
    readonly of: RotatingCase,
    readonly run: FamilyRun,
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

  /** Nothing before the first sample. */
  result(): Measured[] {
    const { name, work, numSets } = this.of;
    const { size, family, dtype } = this.run;
    const { device, pipeline } = this.#samples;
    if (pipeline.length === 0) return [];
    return [
      {
        ...{ name, size, dtype, family, bytes: work.bytes, flops: "flops" in work ? work.flops : 0 },
        seconds: { median: median(device), p10: quantile(device, 0.1), p90: quantile(device, 0.9) },
        pipelineSeconds: median(pipeline),
        ...{ numSets, callsPerSample: this.#calls, samples: this.#samples },
      },
    ];
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

export function withFloor(
  measured: Measured,
  { copyBytesPerSecond, flopsPerSecond }: KernelReport["rates"],
): KernelResult {
  const { bytes, flops, dtype } = measured;
  const productRate = flopsPerSecond[dtype] ?? 0;
  if (copyBytesPerSecond === 0 || (flops > 0 && productRate === 0))
    return { ...measured, floorSeconds: null, bound: null };
  const memory = bytes / copyBytesPerSecond;
  const arithmetic = flops > 0 ? flops / productRate : 0;
  return {
    ...measured,
    floorSeconds: Math.max(memory, arithmetic),
    bound: arithmetic > memory ? "arithmetic" : "memory",
  };
}
