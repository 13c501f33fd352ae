// node --import ./scripts/typescript.mjs bench/cuda/layers.ts [pattern] [options]: our layers on the GPU beside those that
// others write with PyTorch and Triton. Options: --json <file>, --seconds <for everything>; --quick takes tiny sizes;
// --device and --peers say where we and they run: both cpu tries the comparison itself without a GPU.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Terminal } from "../../lib/cli/terminal.js";
import { openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";
import { type Design, GpuPeer, gpuPeerProgram } from "../peers/gpu-peer.js";
import { pythonWith } from "../peers/python.js";
import { describeRun } from "../report.js";
import { writeResults } from "../results-file.js";
import { median } from "../statistics.js";
import { LayerComparisons } from "./compare-layers.js";
import { headlinesOf, type LayerReport, printLayers } from "./layer-report.js";
import { fullSizes, layerTasks, quickSizes } from "./layer-tasks.js";

const folder = fileURLToPath(new URL("../../build/gpu-check", import.meta.url));
const copyBytes = 1 << 28;

const { values, positionals } = parseArgs({
  options: {
    json: { type: "string", default: join(folder, "layers.results.json") },
    seconds: { type: "string", default: "480" },
    quick: { type: "boolean", default: false },
    device: { type: "string", default: "cuda" },
    peers: { type: "string", default: "cuda" },
  },
  allowPositionals: true,
});

async function measure(pattern: string): Promise<LayerReport> {
  const tasks = layerTasks(values.quick ? quickSizes : fullSizes).filter(({ name }) =>
    name.includes(pattern),
  );
  if (tasks.length === 0) throw new Error(`nothing has "${pattern}" in its name`);
  const peers = new Peers();
  const run = describeRun(openDevice("cpu"));
  const device = openDevice(values.device).description;
  let copyBytesPerSecond: number | null = null;
  const report = (): LayerReport => {
    const { rows, missing } = comparisons;
    return {
      ...{ device, commit: run.commit, date: run.date, peers: peers.descriptions(), copyBytesPerSecond },
      ...{ headlines: headlinesOf(rows), rows, missing },
    };
  };
  const comparisons = new LayerComparisons(tasks, {
    device: values.device,
    rounds: values.quick ? 1 : 5,
    seconds: Number(values.seconds),
    compileSeconds: 150,
    peerOf: (design, dtype) => peers.of(design, dtype),
    progress: () => writeResults(values.json, report()),
  });
  try {
    copyBytesPerSecond = await peers.copyBytesPerSecond();
    await writeResults(values.json, report());
    await comparisons.run();
    return report();
  } finally {
    await peers.end();
  }
}

/** The peers that were asked for, running. */
class Peers {
  readonly #peers = new Map<string, GpuPeer>();
  readonly #python = pythonWith("numpy", "torch");

  of(design: Design, dtype: ProductDType): GpuPeer {
    if (this.#python === undefined) throw new Error("there is no python3 with numpy and torch");
    // Ceilings are told the precision with each call.
    const name = design === "ceilings" ? design : `${design} ${dtype}`;
    const options = { python: this.#python, device: values.peers, cacheFolder: join(folder, "cache") };
    const peer = this.#peers.get(name) ?? new GpuPeer(gpuPeerProgram(design, dtype, options));
    this.#peers.set(name, peer);
    return peer;
  }

  descriptions(): LayerReport["peers"] {
    return Object.fromEntries([...this.#peers].map(([name, { description }]) => [name, description ?? {}]));
  }

  async copyBytesPerSecond(): Promise<number | null> {
    try {
      const what = { bytes: copyBytes, iterations: 20 };
      const reply = await this.of("ceilings", "f32").call("memcpy", what, 60);
      return (2 * copyBytes) / median(reply["seconds"] as number[]);
    } catch {
      return null; // The rows that need this peer say why it is missing.
    }
  }

  async end(): Promise<void> {
    await Promise.all([...this.#peers.values()].map((peer) => peer.end()));
  }
}

printLayers(await measure(positionals[0] ?? ""), new Terminal(process.stdout));
