import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { writeSafetensors } from "../../lib/checkpoint/safetensors.js";
import { type Device, openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";
import { checkAgreement } from "../agreement.js";
import type { Design, GpuPeer } from "../peers/gpu-peer.js";
import { deviceSeconds, pipelineSeconds } from "./device-timer.js";
import type { LayerRow, MissingRow } from "./layer-report.js";
import { type LayerTask, type OwnedWorkload, smallTopK } from "./layer-tasks.js";
import { type Mode, openCeiling, openRival, type Rival, type RivalInputs } from "./rival.js";
import { runsPerTurn, type System, takeTurns, timesOf } from "./turns.js";

/** Four times what one product may be off by: a gradient goes through up to four of them. Relative norm. */
const tolerances: Readonly<Record<ProductDType, number>> = { f32: 4e-5, tf32: 2e-3, bf16: 2e-2 };

/** Calls that are queued at once and timed together. */
const callsPerSample = 5;
const warmUps = 20;
const warmUpsPerTurn = 3;

export interface LayerComparisonOptions {
  /** Name of our device. */
  device: string;
  rounds: number;
  /** Seconds for everything. */
  seconds: number;
  /** Most seconds for a peer to compile a task and run it for the first time. */
  compileSeconds: number;
  /** The peer of a design and precision; throws where there is none. */
  peerOf: (design: Design, dtype: ProductDType) => GpuPeer;
}

/** Compares task after task. Whatever fails is listed with its reason, and the rest goes on. */
export class LayerComparisons {
  readonly rows: LayerRow[] = [];
  readonly missing: MissingRow[] = [];
  readonly #deadline: number;
  /** Computations of ours that agree with the reference. */
  readonly #checked = new Set<string>();

  constructor(private readonly options: LayerComparisonOptions) {
    this.#deadline = performance.now() + 1000 * options.seconds;
  }

  async compare(task: LayerTask): Promise<void> {
    if (this.#secondsLeft() <= 0) {
      this.#miss(task, task.designs, "there was no time left");
      return;
    }
    const peers = await this.#started(task);
    if (peers.size === 0) return;
    let ours: OwnedWorkload | undefined;
    const folder = await mkdtemp(join(tmpdir(), "layers-"));
    try {
      const device = openDevice(this.options.device, { dtype: task.dtype });
      await this.#checkOurs(task, device);
      ours = task.make(device);
      await this.#compareWith(peers, task, ours, device, folder);
    } catch (error) {
      this.#miss(task, [...peers.keys()], `ours failed: ${messageOf(error)}`);
    } finally {
      ours?.dispose();
      await rm(folder, { recursive: true });
    }
  }

  /** The peers that run. They start at the same time, which takes each some seconds. */
  async #started(task: LayerTask): Promise<Map<Design, GpuPeer>> {
    const starts = task.designs.map(async (design) => {
      const peer = this.options.peerOf(design, task.dtype);
      await peer.start();
      return [design, peer] as const;
    });
    const results = await Promise.allSettled(starts);
    for (const [i, result] of results.entries()) {
      if (result.status === "rejected") this.#miss(task, [task.designs[i]!], messageOf(result.reason));
    }
    return new Map(results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : [])));
  }

  #secondsLeft(): number {
    return (this.#deadline - performance.now()) / 1000;
  }

  #miss({ name, dtype }: LayerTask, designs: readonly Design[], reason: string): void {
    this.missing.push(...designs.map((rival) => ({ name, rival, dtype, reason })));
  }

  /** At a small size, beside the reference in float64. It knows no tf32, so that is compared with exact products. */
  async #checkOurs(task: LayerTask, device: Device): Promise<void> {
    const { dtype } = task;
    const ours = task.makeSmall(device);
    const reference = task.makeSmall(openDevice("reference", { dtype: dtype === "tf32" ? "f32" : dtype }));
    const what = `${ours.name} ${dtype}`;
    try {
      if (this.#checked.has(what)) return;
      const expected = await reference.results(smallTopK);
      checkAgreement("our device", await ours.results(smallTopK), expected, tolerances[dtype]);
      this.#checked.add(what);
    } finally {
      ours.dispose();
      reference.dispose();
    }
  }

  async #compareWith(
    peers: ReadonlyMap<Design, GpuPeer>,
    task: LayerTask,
    ours: OwnedWorkload,
    device: Device,
    folder: string,
  ): Promise<void> {
    await writeSafetensors(join(folder, "inputs.safetensors"), await ours.inputs(), ours.metadata);
    const expected = await ours.results(task.topK);
    const { rounds, compileSeconds } = this.options;
    const common = { task, case: ours.name, folder, expected, tolerance: tolerances[task.dtype], rounds };
    const rivals = new Map<Design, Rival>();
    for (const [design, peer] of peers) {
      const seconds = Math.min(compileSeconds, this.#secondsLeft());
      const rival = await this.#open(design, peer, { ...common, seconds });
      if (rival) rivals.set(design, rival);
    }
    if (rivals.size > 0) await this.#measure(task, ours, device, rivals);
  }

  async #open(design: Design, peer: GpuPeer, inputs: RivalInputs): Promise<Rival | undefined> {
    const { task, seconds } = inputs;
    try {
      if (seconds <= 0) throw new Error("there was no time left");
      const rival = await (design === "ceilings" ? openCeiling : openRival)(peer, inputs);
      if (rival.graphObstacle !== null) this.#miss(task, [design], `no CUDA graph: ${rival.graphObstacle}`);
      return rival;
    } catch (error) {
      this.#miss(task, [design], messageOf(error));
      return undefined;
    }
  }

  /** A B A B ... A: ours begin and end. */
  async #measure(
    task: LayerTask,
    ours: OwnedWorkload,
    device: Device,
    rivals: ReadonlyMap<Design, Rival>,
  ): Promise<void> {
    const { rounds } = this.options;
    const queue = () => {
      ours.queue(task.topK);
    };
    const peakBytes = await peakBytesOf(device, queue);
    for (let run = 0; run < warmUps; run += 1) queue();
    const runs = runsPerTurn(await pipelineSeconds(device, queue, callsPerSample), rounds);
    const timers = { queued: pipelineSeconds, device: deviceSeconds };
    const oursIn = (mode: Mode): System => ({
      sample: async () => {
        for (let run = 0; run < warmUpsPerTurn; run += 1) queue();
        const samples: number[] = [];
        for (let run = 0; run < runs; run += callsPerSample)
          samples.push(await timers[mode](device, queue, callsPerSample));
        return samples;
      },
    });
    const theirs = [...rivals].flatMap(([design, { systems, ...rest }]) =>
      systems.map((each) => ({ design, ...rest, ...each })),
    );
    const modes = [...new Set(theirs.map(({ mode }) => mode))];
    const systems = [...modes.map(oursIn), ...theirs.map(({ system }) => system)];
    const times = await takeTurns(systems, rounds);
    for (const [i, mode] of modes.entries()) {
      const last = timesOf(await systems[i]!.sample());
      const oursTimes = times[i]!;
      const first = timesOf(oursTimes.samples.slice(0, oursTimes.samples.length / rounds));
      for (const [j, other] of theirs.entries()) {
        if (other.mode !== mode) continue;
        const theirTimes = times[modes.length + j]!;
        this.rows.push({
          ...{ name: task.name, rival: other.design, dtype: task.dtype, mode },
          ...{ ours: oursTimes, theirs: theirTimes, ratio: oursTimes.median / theirTimes.median },
          ...{ drift: last.median / first.median, flops: ours.flops(task.topK) },
          peakBytes: { ours: peakBytes, theirs: other.peakBytes },
        });
      }
    }
  }
}

/** Most memory that tensors take while it runs once. */
async function peakBytesOf(device: Device, queue: () => void): Promise<number> {
  await device.settled();
  device.resetPeak();
  queue();
  await device.settled();
  return device.memoryStats().peakBytes;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
