import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { readSafetensors, writeSafetensors } from "../lib/checkpoint/safetensors.js";
import type { Device } from "../lib/device.js";
import { checkAgreement } from "./agreement.js";
import type { Comparison } from "./compare.js";
import type { Peer } from "./peers/peer.js";
import type { PeerKind } from "./peers/peer-kind.js";
import { median } from "./statistics.js";
import { timed, type Workload } from "./workload.js";

/** Something to do beside a peer. */
export interface PeerTask extends Pick<Comparison, "name" | "rival" | "threads" | "flops" | "target"> {
  kind: PeerKind;
  workload: Workload;
  topK: number;
}

/** The tasks whose peers are installed, with these running. End them. */
export class PeerComparisons {
  readonly comparisons: Comparison[] = [];
  /** Kinds that are not installed. */
  readonly missing = new Set<PeerKind>();
  readonly #peers: Peer[] = [];

  private constructor(
    private readonly device: Device,
    private readonly folder: string,
  ) {}

  /** Starts the peers, gives them our inputs, finds the fastest settings for each task, and compares results. */
  static async open(device: Device, tasks: readonly PeerTask[]): Promise<PeerComparisons> {
    const opened = new PeerComparisons(device, await mkdtemp(join(tmpdir(), "peers-")));
    try {
      for (const group of groupsOf(tasks)) await opened.#prepare(group);
    } catch (error) {
      await opened.end();
      throw error;
    }
    return opened;
  }

  async end(): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.end()));
    await rm(this.folder, { recursive: true });
  }

  /** All tasks have the same kind of peer and number of threads. */
  async #prepare(tasks: readonly PeerTask[]): Promise<void> {
    const { kind, threads } = tasks[0]!;
    const peers = await kind.start(threads);
    this.#peers.push(...peers);
    if (peers.length === 0) this.missing.add(kind);
    else {
      for (const workload of new Set(tasks.map((task) => task.workload))) await this.#load(workload, peers);
      for (const task of tasks) this.comparisons.push(await this.#compare(task, peers));
    }
  }

  async #load(workload: Workload, peers: readonly Peer[]): Promise<void> {
    const file = join(this.folder, "inputs.safetensors");
    await writeSafetensors(file, await workload.inputs(), workload.metadata);
    for (const peer of peers) await peer.call("load", { case: workload.name, file });
  }

  async #compare(task: PeerTask, peers: readonly Peer[]): Promise<Comparison> {
    const { name, rival, threads, flops, target, kind, workload, topK } = task;
    const what = { case: workload.name, topK };
    const peer = await fastest(peers, what);
    const file = join(this.folder, "results.safetensors");
    await peer.call("results", { ...what, file });
    checkAgreement(`${rival}: ${name}`, (await readSafetensors(file)).tensors, await workload.results(topK));
    return {
      ...{ name, rival, threads, flops, target },
      settings: kind.describe(peer),
      ours: timed(workload, topK, this.device, threads),
      theirs: () => seconds(peer, what),
    };
  }
}

/** Tasks of one kind of peer and one number of threads go together. */
function groupsOf(tasks: readonly PeerTask[]): PeerTask[][] {
  const groups = new Map<string, PeerTask[]>();
  for (const task of tasks) {
    const key = `${task.kind.name} ${task.threads}`;
    groups.set(key, [...(groups.get(key) ?? []), task]);
  }
  return [...groups.values()];
}

const trials = 5;

/** Tries the peers in turn, after a run that is not counted. */
async function fastest(peers: readonly Peer[], what: Record<string, unknown>): Promise<Peer> {
  if (peers.length === 1) return peers[0]!;
  const times = peers.map((): number[] => []);
  for (let trial = -1; trial < trials; trial += 1) {
    for (const [i, peer] of peers.entries()) {
      const time = await seconds(peer, what);
      if (trial >= 0) times[i]!.push(time);
    }
  }
  const medians = times.map(median);
  return peers[medians.indexOf(Math.min(...medians))]!;
}

async function seconds(peer: Peer, what: Record<string, unknown>): Promise<number> {
  return Number((await peer.call("run", what))["seconds"]);
}
