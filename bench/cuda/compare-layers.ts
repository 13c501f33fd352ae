import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { writeSafetensors } from "../../lib/checkpoint/safetensors.js";
import { type Device, openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";
import { checkAgreement, DisagreementError } from "../agreement.js";
import type { Design, GpuPeer } from "../peers/gpu-peer.js";
import { deviceSeconds, pipelineSeconds } from "./device-timer.js";
import type { LayerRow, MissingRow } from "./layer-report.js";
import { type LayerTask, type OwnedWorkload, smallTopK } from "./layer-tasks.js";
import { type Mode, openCeiling, openRival, type Rival, type RivalInputs } from "./rival.js";
import { messageOf, runsPerTurn, type System, Turns } from "./turns.js";

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
  /** Called whenever there is something new. */
  progress?: () => Promise<void>;
}

/** Compares task after task. Whatever fails is listed with its reason, and the rest goes on. */
export class LayerComparisons {
  readonly rows: LayerRow[] = [];
  readonly #failed: MissingRow[] = [];
  readonly #deadline: number;
  /** Computations of ours that agree with the reference. */
  readonly #checked = new Set<string>();

  constructor(
    private readonly tasks: readonly LayerTask[],
    private readonly options: LayerComparisonOptions,
  ) {
    this.#deadline = performance.now() + 1000 * options.seconds;
  }

  /** What failed, and what there is nothing of yet. */
  get missing(): MissingRow[] {
    const known = new Set([...this.rows, ...this.#failed].map(comparisonOf));
    const wanted = this.tasks.flatMap(({ name, dtype, designs }) =>
      designs.map((rival) => ({
        ...{ name, rival, dtype, kind: "time" as const },
        reason: "it was not measured before the end",
      })),
    );
    return [...this.#failed, ...wanted.filter((each) => !known.has(comparisonOf(each)))];
  }

  async run(): Promise<void> {
    for (const task of this.tasks) {
      await this.#compare(task);
      await this.options.progress?.();
    }
  }

  async #compare(task: LayerTask): Promise<void> {
    if (this.#secondsLeft() <= 0) {
      this.#miss(task, task.designs, "time", "there was no time left");
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
      const measured = new Set(this.rows.map(comparisonOf));
      const others = [...peers.keys()].filter((rival) => !measured.has(comparisonOf({ ...task, rival })));
      this.#miss(task, others, "ours", `ours failed: ${messageOf(error)}`);
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
      if (result.status === "rejected")
        this.#miss(task, [task.designs[i]!], "peer", messageOf(result.reason));
    }
    return new Map(results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : [])));
  }

  #secondsLeft(): number {
    return (this.#deadline - performance.now()) / 1000;
  }

  #miss(
    { name, dtype }: LayerTask,
    designs: readonly Design[],
    kind: MissingRow["kind"],
    reason: string,
  ): void {
    this.#failed.push(...designs.map((rival) => ({ name, rival, dtype, kind, reason })));
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
      // The other half is for the others, and for turns.
      const seconds = Math.min(compileSeconds, this.#secondsLeft() / 2);
      const rival = await this.#open(design, peer, { ...common, seconds });
      if (rival) rivals.set(design, rival);
    }
    if (rivals.size > 0) await this.#measure(task, ours, device, rivals);
  }

  async #open(design: Design, peer: GpuPeer, inputs: RivalInputs): Promise<Rival | undefined> {
    const { task, seconds } = inputs;
    if (seconds <= 0) {
      this.#miss(task, [design], "time", "there was no time left");
      return undefined;
    }
    try {
      const rival = await (design === "ceilings" ? openCeiling : openRival)(peer, inputs);
      if (rival.graphObstacle !== null)
        this.#miss(task, [design], "peer", `no CUDA graph: ${rival.graphObstacle}`);
      return rival;
    } catch (error) {
      this.#miss(task, [design], error instanceof DisagreementError ? "disagrees" : "peer", messageOf(error));
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
    const { rounds, progress } = this.options;
    const queue = () => {
      ours.queue(task.topK);
    };
    const peakBytes = await peakBytesOf(device, queue);
    for (let run = 0; run < warmUps; run += 1) queue();
    const runs = runsPerTurn(await pipelineSeconds(device, queue, callsPerSample), rounds);
    const theirs = [...rivals].flatMap(([design, { systems, ...rest }]) =>
      systems.map((each) => ({ ...rest, ...each, party: design })),
    );
    const modes = [...new Set(theirs.map(({ mode }) => mode))];
    const turns = new Turns([...modes.map((mode) => ourSystem(mode, device, queue, runs)), ...theirs]);
    const begin = this.rows.length;
    const show = async (): Promise<void> => {
      const rows = theirs.flatMap(({ party, mode, peakBytes: theirPeak }, i): LayerRow[] => {
        const our = modes.indexOf(mode);
        const [ourTimes, theirTimes] = [turns.timesOf(our), turns.timesOf(modes.length + i)];
        if (!ourTimes || !theirTimes) return [];
        return [
          {
            ...{ name: task.name, rival: party, dtype: task.dtype, mode },
            ...{ ours: ourTimes, theirs: theirTimes, ratio: ourTimes.median / theirTimes.median },
            ...{ drift: turns.driftOf(our), flops: ours.flops(task.topK) },
            peakBytes: { ours: peakBytes, theirs: theirPeak },
          },
        ];
      });
      this.rows.splice(begin, Infinity, ...rows);
      await progress?.();
    };
    for (let round = 0; round < rounds && (round === 0 || this.#secondsLeft() > 0); round += 1) {
      await turns.round();
      await show();
    }
    await turns.round(modes.length);
    await show();
    for (const { party, mode } of theirs) {
      const reason = turns.failures.get(oursIn(mode));
      if (reason !== undefined) this.#miss(task, [party], "ours", `${oursIn(mode)} failed: ${reason}`);
    }
    for (const design of rivals.keys()) {
      const reason = turns.failures.get(design);
      if (reason !== undefined) this.#miss(task, [design], "peer", reason);
    }
  }
}

/** The name of our side in one mode. */
function oursIn(mode: Mode): string {
  return `ours ${mode}`;
}

const timers = { queued: pipelineSeconds, device: deviceSeconds };

function ourSystem(mode: Mode, device: Device, queue: () => void, runs: number): System {
  return {
    party: oursIn(mode),
    sample: async () => {
      for (let run = 0; run < warmUpsPerTurn; run += 1) queue();
      const samples: number[] = [];
      for (let run = 0; run < runs; run += callsPerSample)
        samples.push(await timers[mode](device, queue, callsPerSample));
      return samples;
    },
  };
}

/** What a row and a missing one have in common when they are of one comparison. */
function comparisonOf({ name, dtype, rival }: Pick<MissingRow, "name" | "dtype" | "rival">): string {
  return `${name} ${dtype} ${rival}`;
}

/** Most memory that tensors take while it runs once. */
async function peakBytesOf(device: Device, queue: () => void): Promise<number> {
  await device.settled();
  device.resetPeak();
  queue();
  await device.settled();
  return device.memoryStats().peakBytes;
}
