import { afterEach, describe, expect, test } from "@jest/globals";

import { PeerComparisons, type PeerTask } from "../../bench/peer-comparisons.js";
import { Peer } from "../../bench/peers/peer.js";
import type { PeerKind } from "../../bench/peers/peer-kind.js";
import type { HostTensors, Workload } from "../../bench/workload.js";
import { openDevice } from "../../lib/device.js";

/** Its results are its inputs, and it takes as long as it is told. */
const program = `
  let inputs;
  const calls = {
    load: ({ file }) => ((inputs = require("fs").readFileSync(file)), {}),
    results: ({ file }) => (require("fs").writeFileSync(file, inputs), {}),
    run: () => ({ seconds: Number(process.env.SECONDS) }),
  };
  console.log(JSON.stringify({ seconds: process.env.SECONDS }));
  require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
    const { call, ...args } = JSON.parse(line);
    console.log(JSON.stringify(calls[call](args)));
  });`;

/** One peer for each speed. */
function kindOf(...seconds: number[]): PeerKind {
  return {
    name: "copier",
    install: "apt install copier",
    start: () =>
      Promise.all(
        seconds.map((each) =>
          Peer.start({ command: process.execPath, args: ["-e", program], env: { SECONDS: String(each) } }),
        ),
      ),
    describe: (peer) => `${String(peer.description["seconds"])} s`,
  };
}

function vector(...values: number[]): HostTensors {
  return new Map([["y", { dtype: "F32", shape: [values.length], data: Float32Array.from(values) }]]);
}

/** What it computes from [1, 2]. */
function taskOf(kind: PeerKind, results: HostTensors): PeerTask {
  const workload: Workload = {
    name: "copy",
    metadata: new Map(),
    flops: () => null,
    inputs: () => Promise.resolve(vector(1, 2)),
    results: () => Promise.resolve(results),
    run: () => Promise.resolve(),
  };
  return { name: "copy", rival: kind.name, kind, workload, topK: 1, threads: 1, flops: null, target: 1 };
}

describe("PeerComparisons", () => {
  let opened: PeerComparisons | undefined;

  afterEach(async () => {
    await opened?.end();
    opened = undefined;
  });

  const open = async (kind: PeerKind, results: HostTensors): Promise<PeerComparisons> =>
    (opened = await PeerComparisons.open(openDevice(), [taskOf(kind, results)]));

  test("takes the fastest settings", async () => {
    const { comparisons } = await open(kindOf(0.3, 0.1, 0.2), vector(1, 2));
    expect(comparisons).toMatchObject([{ name: "copy", rival: "copier", settings: "0.1 s", target: 1 }]);
    expect(await comparisons[0]?.theirs()).toBe(0.1);
  });

  test("refuses a peer that computes something else", async () => {
    await expect(open(kindOf(0.1), vector(1, 3))).rejects.toThrow("copier: copy computes something else");
  });

  test("lists a peer that is not installed", async () => {
    const { comparisons, missing } = await open(kindOf(), vector(1, 2));
    expect(comparisons).toEqual([]);
    expect([...missing]).toMatchObject([{ name: "copier", install: "apt install copier" }]);
  });
});
