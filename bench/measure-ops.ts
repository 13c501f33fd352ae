import type { Device } from "../lib/device.js";
import type { MachinePeak } from "./machine-peak.js";
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

/** How fast one op ran. */
export interface OpResult extends Pick<OpCase, "name" | "work"> {
  threads: number;
  /** Median. */
  secondsPerCall: number;
  /** FLOP/s, or bytes/s where memory bounds the op. */
  rate: number;
  /** Of the medians; and of the best samples, which other load on the machine hardly touches. */
  shareOfPeak: { median: number; best: number };
  /** One per round: seconds per call, and the peak just before it in FLOP/s or bytes/s. */
  samples: { seconds: number[]; peak: number[] };
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
  readonly peak: number[] = [];
  readonly #seconds: number[] = [];
  #calls = 1;

  constructor(
    readonly opCase: OpCase,
    private readonly run: OpRun,
    private readonly threads: number,
  ) {}

  async warmUp(): Promise<void> {
    await this.#secondsPerCall();
    const wanted = Math.round(this.run.sampleSeconds / (await this.#secondsPerCall()));
    this.#calls = Math.min(1000, Math.max(1, wanted));
  }

  async sample(): Promise<void> {
    const { work } = this.opCase;
    const { peak } = this.run;
    this.peak.push("flops" in work ? peak.multiplyAdd(this.threads) : peak.copy(this.threads, work.bytes));
    this.#seconds.push(await this.#secondsPerCall());
  }

  result(peak: readonly number[]): OpResult {
    const { name, work } = this.opCase;
    const amount = "flops" in work ? work.flops : work.bytes;
    const secondsPerCall = median(this.#seconds);
    return {
      name,
      work,
      threads: this.threads,
      secondsPerCall,
      rate: amount / secondsPerCall,
      shareOfPeak: {
        median: amount / secondsPerCall / median(peak),
        best: amount / Math.min(...this.#seconds) / Math.max(...peak),
      },
      samples: { seconds: this.#seconds, peak: this.peak },
    };
  }

  /** Queues the calls, then waits for all of them. */
  async #secondsPerCall(): Promise<number> {
    const start = performance.now();
    for (let call = 0; call < this.#calls; call += 1) this.opCase.queue();
    await this.run.device.settled();
    return (performance.now() - start) / 1000 / this.#calls;
  }
}
