import type { Device } from "../lib/device.js";
import type { MachinePeak, Rate } from "./machine-peak.js";
import type { OpCase } from "./op-cases.js";
import { median } from "./statistics.js";

export interface OpRun {
  device: Device;
  peak: MachinePeak;
  /** Thread counts to measure with. */
  threads: readonly number[];
  /** Samples of each case. */
  rounds: number;
  /** A sample repeats its call until about this much time has passed. */
  sampleSeconds: number;
}

/** How fast one op ran. Medians. */
export interface OpResult extends Pick<OpCase, "name" | "work"> {
  threads: number;
  secondsPerCall: number;
  rate: Rate;
  /** rate / peak. */
  shareOfPeak: Rate;
  /** One per round: the op's times per call, and the machine's peak just before. */
  samples: { seconds: number[]; cpuSeconds: number[]; peak: Rate[] };
}

/**
 * Times every case with every number of threads. All of them are sampled once per round, and each sample follows
 * one of the machine's peak, so that other load and clock changes meet all alike.
 */
export async function measureOps(cases: readonly OpCase[], run: OpRun): Promise<OpResult[]> {
  const timers = run.threads.map((threads) => ({
    threads,
    timers: cases.map((opCase) => new Timer(opCase, run, threads)),
  }));
  for (let round = -1; round < run.rounds; round += 1) {
    for (const { threads, timers: timersOfPool } of timers) {
      run.device.setThreads(threads);
      for (const timer of timersOfPool) await (round < 0 ? timer.warmUp() : timer.sample());
    }
  }
  return timers.flatMap(({ timers: timersOfPool }) => {
    const multiplyAdd = timersOfPool.flatMap(({ opCase, peak }) => ("flops" in opCase.work ? peak : []));
    return timersOfPool.map((timer) => timer.result("flops" in timer.opCase.work ? multiplyAdd : timer.peak));
  });
}

/** One case at one number of threads. */
class Timer {
  /** The machine's, before each sample. */
  readonly peak: Rate[] = [];
  readonly #seconds: number[] = [];
  readonly #cpuSeconds: number[] = [];
  #calls = 1;

  constructor(
    readonly opCase: OpCase,
    private readonly run: OpRun,
    private readonly threads: number,
  ) {}

  async warmUp(): Promise<void> {
    const wanted = Math.round(this.run.sampleSeconds / (await this.#time()).seconds);
    this.#calls = Math.min(1000, Math.max(1, wanted));
  }

  async sample(): Promise<void> {
    const { work } = this.opCase;
    const { peak } = this.run;
    this.peak.push("flops" in work ? peak.multiplyAdd(this.threads) : peak.copy(this.threads, work.bytes));
    const { seconds, cpuSeconds } = await this.#time();
    this.#seconds.push(seconds);
    this.#cpuSeconds.push(cpuSeconds);
  }

  result(peak: readonly Rate[]): OpResult {
    const { name, work } = this.opCase;
    const amount = "flops" in work ? work.flops : work.bytes;
    const secondsPerCall = median(this.#seconds);
    const rate = { perSecond: amount / secondsPerCall, perCpuSecond: amount / median(this.#cpuSeconds) };
    return {
      name,
      work,
      threads: this.threads,
      secondsPerCall,
      rate,
      shareOfPeak: {
        perSecond: rate.perSecond / median(peak.map(({ perSecond }) => perSecond)),
        perCpuSecond: rate.perCpuSecond / median(peak.map(({ perCpuSecond }) => perCpuSecond)),
      },
      samples: { seconds: this.#seconds, cpuSeconds: this.#cpuSeconds, peak: this.peak },
    };
  }

  /** Queues the calls, then waits for all of them; one before them fills the caches. Times are per call. */
  async #time(): Promise<{ seconds: number; cpuSeconds: number }> {
    this.opCase.queue();
    await this.run.device.settled();
    const start = performance.now();
    const cpuStart = process.cpuUsage();
    for (let call = 0; call < this.#calls; call += 1) this.opCase.queue();
    await this.run.device.settled();
    const { user, system } = process.cpuUsage(cpuStart);
    return {
      seconds: (performance.now() - start) / 1e3 / this.#calls,
      cpuSeconds: (user + system) / 1e6 / this.#calls,
    };
  }
}
