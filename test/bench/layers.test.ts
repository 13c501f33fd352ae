import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";

import { afterEach, describe, expect, test } from "@jest/globals";

import { LayerComparisons } from "../../bench/cuda/compare-layers.js";
import { headlinesOf, type LayerRow } from "../../bench/cuda/layer-report.js";
import { type LayerTask, layerTasks, quickSizes } from "../../bench/cuda/layer-tasks.js";
import { runsPerTurn, Turns } from "../../bench/cuda/turns.js";
import { type Design, GpuPeer, gpuPeerProgram } from "../../bench/peers/gpu-peer.js";
import { pythonWith } from "../../bench/peers/python.js";
import type { Device } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";

/** Runs a peer with what its PyTorch may be too old for, written out. */
const onOldPyTorch = fileURLToPath(new URL("children/on_old_pytorch.py", import.meta.url));

type Behaviour = "" | "hang" | "no graph" | "exit" | "other results" | "exit later" | "fail in a graph";

/** Its results are its inputs. `what` goes wrong, if anything. */
function stub(what: Behaviour): GpuPeer {
  const program = `
    const fs = require("fs");
    const what = ${JSON.stringify(what)};
    let inputs;
    let runs = 0;
    const calls = {
      load: ({ file }) => ((inputs = fs.readFileSync(file)), {}),
      results: ({ file }) => {
        if (what === "hang") return new Promise(() => undefined);
        if (what === "exit") process.exit(1);
        if (what === "other results") inputs.writeFloatLE(3, inputs.length - 4);
        return fs.writeFileSync(file, inputs), {};
      },
      prepare: () => ({ seconds: [1, 1, 1], peakBytes: 7, graph: what === "no graph" ? "it waits" : null }),
      run: ({ iterations, graph }) => {
        if (what === "fail in a graph" && graph) return { error: "no memory" };
        if (what === "exit later" && (runs += 1) > 2) throw new Error("the device is lost");
        return { seconds: Array(iterations).fill(graph ? 0.5 : 1) };
      },
    };
    console.log(JSON.stringify({ pid: process.pid }));
    require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
      const { call, ...args } = JSON.parse(line);
      console.log(JSON.stringify(await calls[call](args)));
    });`;
  return new GpuPeer({ command: process.execPath, args: ["-e", program], env: {} });
}

/** Its results are its inputs, too. */
function taskOf(...designs: Design[]): LayerTask {
  const make = copyOf(() => 2);
  return { name: "copy", dtype: "f32", topK: 1, designs, gemm: null, make, makeSmall: make };
}

/** A workload whose results are 1 and what a device makes of 2. */
function copyOf(secondOn: (device: Device) => number): LayerTask["make"] {
  return (device) => {
    const tensors = () => {
      const data = Float32Array.of(1, secondOn(device));
      return Promise.resolve(new Map([["y", { dtype: "F32" as const, shape: [2], data }]]));
    };
    return {
      name: "copy",
      metadata: new Map(),
      flops: () => 10,
      inputs: tensors,
      results: tensors,
      queue: () => undefined,
      run: () => device.settled(),
      dispose: () => undefined,
    };
  };
}

describe("LayerComparisons", () => {
  const peers: GpuPeer[] = [];

  afterEach(async () => {
    await Promise.all(peers.splice(0).map((peer) => peer.end()));
  });

  const compare = async (
    tasks: readonly LayerTask[],
    peerOf: (design: Design, dtype: ProductDType) => GpuPeer,
  ) => {
    const limits = { rounds: 2, seconds: 60, compileSeconds: 20 };
    const comparisons = new LayerComparisons(tasks, {
      ...{ device: "cpu", ...limits },
      peerOf: (design, dtype) => {
        const peer = peerOf(design, dtype);
        peers.push(peer);
        return peer;
      },
    });
    await comparisons.run();
    return comparisons;
  };

  test("has a row for each peer and mode, with every sample", async () => {
    const { rows, missing } = await compare([taskOf("compiled")], () => stub(""));
    expect(missing).toEqual([]);
    expect(rows).toMatchObject([
      { name: "copy", rival: "compiled", dtype: "f32", mode: "queued", flops: 10, theirs: { median: 1 } },
      { mode: "device", theirs: { median: 0.5, samples: [0.5, 0.5, 0.5, 0.5] }, peakBytes: { theirs: 7 } },
    ]);
    for (const { ratio, ours, theirs, drift } of rows) {
      expect(ratio).toBeCloseTo(ours.median / theirs.median);
      expect(drift).toBeGreaterThan(0);
    }
  });

  test("goes on without what fails, and says why", async () => {
    const task = taskOf("eager", "published", "triton", "compiled", "flex");
    const behaviours = new Map<Design, Behaviour>([
      ["eager", "exit"],
      ["published", "no graph"],
      ["triton", "other results"],
      ["compiled", ""],
    ]);
    const { rows, missing } = await compare([task], (design) => {
      const behaviour = behaviours.get(design);
      if (behaviour === undefined) throw new Error("it is not installed");
      return stub(behaviour);
    });
    expect(rows.map(({ rival, mode }) => `${rival} ${mode}`)).toEqual([
      ...["published queued", "compiled queued", "compiled device"],
    ]);
    expect(missing.map(({ rival, kind, reason }) => `${rival}, ${kind}: ${reason}`)).toEqual([
      "flex, peer: it is not installed",
      expect.stringMatching(/^eager, peer: a peer ended before it replied/),
      "published, peer: no CUDA graph: it waits",
      expect.stringMatching(/^triton, disagrees: the peer computes something else: y differs/),
    ]);
  });

  test("tells our own failures from a peer's", async () => {
    const wrong = copyOf(({ name }) => (name === "reference" ? 2 : 3));
    const { rows, missing } = await compare([{ ...taskOf("eager"), makeSmall: wrong }], () => stub(""));
    expect(rows).toEqual([]);
    expect(missing).toMatchObject([
      { kind: "ours", reason: expect.stringMatching(/^ours failed: our device computes something else/) },
    ]);
  });

  test("lets a peer fail in its turn, alone, and keeps what it did before", async () => {
    const behaviours = new Map<Design, Behaviour>([
      ["eager", "exit later"],
      ["triton", "fail in a graph"],
      ["compiled", ""],
    ]);
    const { rows, missing } = await compare([taskOf("eager", "triton", "compiled")], (design) =>
      stub(behaviours.get(design)!),
    );
    const turns = rows.map(({ rival, mode, theirs }) => `${rival} ${mode}: ${theirs.samples.length / 2}`);
    expect(turns).toEqual([
      ...["eager queued: 1", "eager device: 1", "triton queued: 1"],
      ...["compiled queued: 2", "compiled device: 2"],
    ]);
    expect(missing.map(({ rival, reason }) => `${rival}: ${reason}`)).toEqual([
      expect.stringMatching(/^eager: a peer ended before it replied: .*the device is lost/s),
      expect.stringMatching(/^triton: run failed in .*"no memory"/s),
    ]);
  });

  test("shows each row as soon as there is something in it, and what is still missing", async () => {
    const shown: string[] = [];
    const tasks = [taskOf("compiled"), { ...taskOf("eager"), name: "later" }];
    const comparisons = new LayerComparisons(tasks, {
      ...{ device: "cpu", rounds: 2, seconds: 60, compileSeconds: 20 },
      peerOf: () => {
        const peer = stub("no graph");
        peers.push(peer);
        return peer;
      },
      progress: () => {
        const { rows, missing } = comparisons;
        const samples = rows.map(({ name, theirs }) => `${name} ${theirs.samples.length}`);
        const unmeasured = missing.filter(({ reason }) => /before the end/.test(reason));
        shown.push([...samples, ...unmeasured.map(({ name }) => `no ${name}`)].join(", "));
        return Promise.resolve();
      },
    });
    await comparisons.run();
    expect([...new Set(shown)]).toEqual([
      ...["copy 2, no later", "copy 4, no later", "copy 4, later 2", "copy 4, later 4"],
    ]);
  });

  test("ends a peer that takes too long, and starts it again when it is needed", async () => {
    const peer = stub("hang");
    peers.push(peer);
    const { pid } = (await peer.start()).description;
    await expect(peer.call("results", {}, 0.2)).rejects.toThrow("results took longer than 0 s");
    expect(await peer.call("prepare", {}, 20)).toMatchObject({ peakBytes: 7 });
    expect(peer.description?.["pid"]).not.toBe(pid);
  });

  const python = pythonWith("numpy", "torch");
  if (python === undefined) {
    console.log("designs of peers were not tried: there is no python3 with numpy and torch");
    return;
  }
  test.each<[Design, ProductDType]>([
    ["published", "f32"],
    ["eager", "bf16"],
  ])("the design %s computes what we compute", async (design, dtype) => {
    const tasks = layerTasks(quickSizes)
      .filter((task) => task.dtype === dtype && task.designs.includes(design))
      .map((task) => ({ ...task, designs: [design] }));
    const options = { python, device: "cpu", cacheFolder: tmpdir() };
    const { args, ...program } = gpuPeerProgram(design, dtype, options);
    const env = { ...program.env, OMP_NUM_THREADS: "1", OPENBLAS_NUM_THREADS: "1" };
    const peer = new GpuPeer({ ...program, args: [onOldPyTorch, ...args], env });
    const { rows, missing } = await compare(tasks, () => peer);
    expect(tasks.length).toBeGreaterThanOrEqual(4);
    for (const { reason } of missing) expect(reason).toMatch(/^no CUDA graph: /);
    expect(rows.map(({ name }) => name)).toEqual(tasks.map(({ name }) => name));
  });
});

test("systems take turns, and one that fails ends its party's", async () => {
  const calls: string[] = [];
  const system = (party: string, ...seconds: number[]) => ({
    party,
    sample: () => {
      calls.push(party);
      const samples = seconds.splice(0, 2);
      return samples.length > 0 ? Promise.resolve(samples) : Promise.reject(new Error("no more"));
    },
  });
  const turns = new Turns([system("a", 1, 2, 3, 6), system("b", 5, 5), system("b", 7, 7, 7, 7), system("c")]);
  await turns.round();
  await turns.round();
  expect(calls.join("")).toBe("abbcab");
  expect(turns.timesOf(0)).toMatchObject({ median: 2.5, samples: [1, 2, 3, 6] });
  expect(turns.driftOf(0)).toBe(3);
  expect([1, 2, 3].map((i) => turns.timesOf(i)?.samples.length)).toEqual([2, 2, undefined]);
  expect([...turns.failures]).toEqual([
    ["c", "no more"],
    ["b", "no more"],
  ]);
  await turns.round(1);
  expect(calls.join("")).toBe("abbcaba");
});

test.each([
  [1e-5, 20],
  [0.1, 4],
  [10, 2],
])("what takes %s s is run %s times in each of five turns", (seconds, runs) => {
  expect(runsPerTurn(seconds, 5)).toBe(runs);
});

test("the headline is the ratio to the faster of what torch.compile makes", () => {
  const row = (rival: Design, theirs: number, mode: LayerRow["mode"] = "device"): LayerRow => ({
    ...{
      name: "rel_attention forward",
      rival,
      dtype: "bf16",
      mode,
      ratio: 1 / theirs,
      drift: 1,
      flops: null,
    },
    ours: { median: 1, p10: 1, p90: 1, samples: [1] },
    theirs: { median: theirs, p10: theirs, p90: theirs, samples: [theirs] },
    peakBytes: { ours: 1, theirs: 1 },
  });
  const rows = [row("eager", 1), row("compiled", 4), row("flex", 2), row("compiled", 5, "queued")];
  expect(headlinesOf(rows)).toEqual([
    { name: "rel_attention forward", dtype: "bf16", mode: "device", rival: "flex", ratio: 0.5 },
    { name: "rel_attention forward", dtype: "bf16", mode: "queued", rival: "compiled", ratio: 0.2 },
  ]);
});
