import { availableParallelism, totalmem } from "node:os";

import { type FloatDType, type ProductDType, productDTypes } from "./dtype.js";
import { DeviceError } from "./errors.js";
import { type DeviceId, native } from "./native.js";
import { checkChoice, rejectUnknownKeys } from "./options.js";

/** How to open a device. */
export interface DeviceOptions {
  /** Threads that share a kernel's work; results never depend on it. Default: one per core. */
  threads?: number;
  /** What matrix products multiply; see {@link ProductDType}. Default: `f32`. */
  dtype?: ProductDType;
  /** Most bytes of tensors, live and pooled; beyond it allocations throw `OutOfMemoryError`. Default: the memory this process may use. */
  memoryLimitBytes?: number;
  /** Fills new tensors with NaN, so that a kernel that forgets part of its output shows. For tests. */
  poison?: boolean;
}

/** Memory held by one device, in bytes. */
export interface MemoryStats {
  /** Held by live tensors. */
  liveBytes: number;
  /** Highest `liveBytes` since the device was opened or `resetPeak()` was called. */
  peakBytes: number;
  /** Kept for reuse. */
  pooledBytes: number;
  /** Live tensor handles, on all devices of this thread. */
  tensors: number;
  /** Tensors that were never disposed and had to be reclaimed by the garbage collector: leaks. */
  reclaimedByGc: number;
}

let reclaimed = 0;

/** Called by the tensor finaliser. */
export function countReclaimed(): void {
  reclaimed += 1;
}

/**
 * Where tensors live and ops run. Ops are checked at the call and run in order on the device's own thread;
 * nothing waits for them until a result is read.
 */
export class Device {
  /** `cpu`, `cuda` or `reference`, or with the instruction set or the number of the GPU: `cpu:avx2`, `cuda:1`. */
  readonly name: string;
  /** The float dtype that ops take here. */
  readonly float: FloatDType;

  /** @internal Use {@link openDevice}. */
  constructor(
    readonly id: DeviceId,
    name: string,
  ) {
    this.name = name;
    this.float = native().deviceInfo(id).computeDType;
  }

  /** Instruction set and number of threads, or the name of the GPU, for people. */
  get description(): string {
    return native().deviceInfo(this.id).description;
  }

  get threads(): number {
    return native().deviceInfo(this.id).threads;
  }

  /** Waits for queued work, then changes the number of threads. Results stay bit for bit the same. */
  setThreads(count: number): void {
    native().setThreads(this.id, count);
  }

  memoryStats(): MemoryStats {
    return { ...native().memoryStats(this.id), reclaimedByGc: reclaimed };
  }

  resetPeak(): void {
    native().resetPeak(this.id);
  }

  /** Resolves when everything queued so far has run. @throws the first error of an op that failed on the device. */
  async settled(): Promise<void> {
    await native().settled(this.id);
  }

  /**
   * Seconds on the device's own clock when everything queued so far has run. The difference of two is what the device
   * took for the work queued between them, whenever the host looked. Only differences mean something.
   *
   * @throws the first error of an op that failed on the device.
   */
  async timestamp(): Promise<number> {
    return new Float64Array(await native().timestamp(this.id))[0]!;
  }

  /** Blocks until everything queued so far has run. For tests and scripts. */
  synchronize(): void {
    native().synchronize(this.id);
  }

  toString(): string {
    return this.name;
  }
}

const opened = new Map<string, Device>();

/**
 * Opens a device, or returns the one opened before with the same arguments.
 *
 * @param name `cpu` (the best instruction set of this machine), `cpu:avx512`, `cpu:avx2`, `cpu:neon`, `cpu:plain`, or
 *   `reference`: plain loops in float64, single-threaded, the oracle of the tests; `cuda` or `cuda:1`: an NVIDIA GPU.
 * @throws {DeviceError} for a name this build or machine does not have.
 */
export function openDevice(name = "cpu", options: DeviceOptions = {}): Device {
  rejectUnknownKeys(options, ["threads", "dtype", "memoryLimitBytes", "poison"]);
  const isCuda = /^cuda(:\d+)?$/.test(name);
  const { threads = defaultThreads(), poison = false } = options;
  const { memoryLimitBytes = isCuda ? 0 : memoryOfProcess() } = options;
  const dtype = checkChoice("dtype", options.dtype ?? "f32", productDTypes);
  const key = JSON.stringify([name, threads, memoryLimitBytes, poison, dtype]);
  let device = opened.get(key);
  if (device === undefined) {
    const [kind, variant] = isCuda ? ["cuda", name.slice("cuda:".length)] : ["cpu", isaOf(name)];
    const id = native().openDevice(kind, variant, threads, memoryLimitBytes, poison, dtype);
    device = new Device(id, name);
    opened.set(key, device);
  }
  return device;
}

/** Every name {@link openDevice} takes on this machine. */
export function deviceNames(): string[] {
  const isas = native().cpuIsas();
  const gpus = Array.from({ length: native().cudaDevices() }, (_, index) => `cuda:${index}`);
  return [
    "cpu",
    ...isas.map((isa) => (isa === "reference" ? isa : `cpu:${isa}`)),
    ...(gpus.length > 0 ? ["cuda", ...gpus] : []),
  ];
}

/** The instruction set that a device name stands for. `HYPERROUTER_CPU_ISA` forces that of device `cpu`. */
function isaOf(name: string): string {
  const forced = process.env["HYPERROUTER_CPU_ISA"] ?? "";
  if (name === "cpu" && forced === "") return "";
  const isa = name === "cpu" ? forced : name.replace(/^cpu:/, "");
  if ((name === "cpu" || deviceNames().includes(name)) && native().cpuIsas().includes(isa)) return isa;
  const asked = name === "cpu" ? `"cpu:${forced}" (from HYPERROUTER_CPU_ISA)` : `"${name}"`;
  throw new DeviceError(`there is no device ${asked} here`, `use one of ${deviceNames().join(", ")}`);
}

/** The memory limit of the container, if there is one; 0: the machine's memory. */
function memoryOfProcess(): number {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : 0;
}

/** `HYPERROUTER_THREADS` sets the default number of threads. */
function defaultThreads(): number {
  const wanted = process.env["HYPERROUTER_THREADS"];
  return wanted === undefined ? availableParallelism() : Number(wanted);
}
