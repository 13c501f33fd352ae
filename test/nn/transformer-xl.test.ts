import { afterEach, describe, expect, test } from "@jest/globals";

import { backward } from "../../lib/autograd/tape.js";
import { openDevice } from "../../lib/device.js";
import { ConfigError } from "../../lib/errors.js";
import { gates } from "../../lib/moe/gates.js";
import { Initializer } from "../../lib/nn/initializer.js";
import { disposeMemory, type Memory } from "../../lib/nn/memory.js";
import { type MoEOptions, TransformerXL, type TransformerXLOptions } from "../../lib/nn/transformer-xl.js";
import { scope } from "../../lib/scope.js";
import { indices, type IndexTensor } from "../../lib/tensor.js";

const device = openDevice("reference");
const batch = 2;
const models: TransformerXL[] = [];

type Changes = Partial<Omit<TransformerXLOptions, "moe">> & { moe?: Partial<MoEOptions> | null };

const small = { vocabSize: 13, numLayers: 2, dModel: 8, numHeads: 2, dInner: 6, memLen: 4 };
const smallMoE = { numExperts: 4, hyperSize: 5 };

function build({ moe = {}, ...changes }: Changes = {}, seed = 1): TransformerXL {
  const options = { ...small, ...changes, moe: moe && { ...smallMoE, ...moe } };
  const model = new TransformerXL(options, new Initializer({ device, seed, std: 0.3 }));
  models.push(model);
  return model;
}

afterEach(() => {
  for (const model of models.splice(0)) model.dispose();
});

/** `[length, batch]` token ids. */
function ids(length: number, from = 0): IndexTensor {
  return indices(
    Array.from({ length: length * batch }, (_, i) => ((i + from * batch) * 5 + 3) % small.vocabSize),
    [length, batch],
    device,
  );
}

/** The losses of consecutive segments, then of all segments again in evaluation. */
function losses(model: TransformerXL, segments = 2, length = 4): number[] {
  return scope(() => {
    const all: number[] = [];
    for (const training of [true, false]) {
      model.train(training);
      let memory: Memory | null = null;
      for (let segment = 0; segment < segments; segment += 1) {
        const from = segment * length;
        const output = model.loss(ids(length, from), ids(length, from + 1), memory);
        all.push(...output.nll.dataSync(), ...(output.auxLoss?.dataSync() ?? []));
        memory = output.memory;
      }
    }
    return all;
  });
}

describe("TransformerXL", () => {
  test("a text in segments with enough memory is the text in one piece", () => {
    const model = build({ memLen: 8 });
    scope(() => {
      const whole = model.loss(ids(8), ids(8, 1));
      const first = model.loss(ids(4), ids(4, 1));
      const second = model.loss(ids(4, 4), ids(4, 5), first.memory);
      const pieces = [...first.nll.dataSync(), ...second.nll.dataSync()];
      whole.nll.dataSync().forEach((nll, i) => expect(pieces[i]).toBeCloseTo(nll, 10));
    });
  });

  test("repeated context changes nothing when it is remembered anyway, and is left out of the memory", () => {
    const [plain, extended] = [build({ memLen: 8 }), build({ memLen: 8, extLen: 2 })];
    scope(() => {
      const first = plain.loss(ids(4), ids(4, 1));
      const second = plain.loss(ids(4, 4), ids(4, 5), first.memory);
      const remembered = extended.loss(ids(4), ids(4, 1)).memory;
      expect(remembered?.map(({ shape }) => shape[0])).toEqual([2, 2]);
      const again = extended.loss(ids(6, 2), ids(4, 5), remembered);
      second.nll.dataSync().forEach((nll, i) => expect(again.nll.dataSync()[i]).toBeCloseTo(nll, 10));
    });
  });

  test("predict scores what follows the last position", () => {
    for (const changes of [{}, { cutoffs: [3, 7], divVal: 2 }]) {
      const model = build(changes);
      scope(() => {
        const nll = model.loss(ids(4), ids(4, 1)).nll.dataSync().subarray(-batch);
        const scores = model.predict(ids(4)).logits.dataSync();
        const targets = ids(1, 4).dataSync();
        for (let column = 0; column < batch; column += 1) {
          const row = [...scores.subarray(column * small.vocabSize, (column + 1) * small.vocabSize)];
          const lse = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
          expect(lse - row[targets[column]!]!).toBeCloseTo(nll[column]!, 10);
        }
      });
    }
  });

  test("top-k changes in one place, and only within the number of experts", () => {
    const model = build();
    expect(model.topK).toBe(2);
    model.setTopK(4);
    expect(model.topK).toBe(4);
    scope(() => expect(model.forward(ids(3)).routing.map(({ topK }) => topK)).toEqual([4, 4]));
    expect(() => model.setTopK(5)).toThrow(ConfigError);
    expect(() => model.setTopK(0)).toThrow("use an integer from 1 to 4");
    expect(model.topK).toBe(4);
  });

  test("a dense model has no routers", () => {
    const model = build({ moe: null });
    expect([model.routers, model.topK]).toEqual([null, 0]);
    expect([...model.namedParameters()].some(([name]) => name.startsWith("routers."))).toBe(false);
    scope(() => expect(model.loss(ids(3), ids(3, 1))).toMatchObject({ routing: [], auxLoss: null }));
  });

  test("frozen routers get no gradient and are not counted", () => {
    const model = build();
    const routers = model.routers!;
    expect(routers.countParameters("trainable")).toBe(2 * small.dModel);
    model.freezeRouters();
    scope(() => backward(() => model.loss(ids(3), ids(3, 1))));
    expect(routers.countParameters("trainable")).toBe(0);
    expect(
      routers.parameters().every((p) =>
        p
          .gradient()
          .dataSync()
          .every((value: number) => value === 0),
      ),
    ).toBe(true);
  });

  test("same seed, same bits; training differs from evaluation only by dropout", () => {
    const changes = { dropout: 0.2, attentionDropout: 0.1 };
    expect(losses(build(changes))).toEqual(losses(build(changes)));
    expect(losses(build(changes, 2))).not.toEqual(losses(build(changes)));
    const dropped = losses(build(changes));
    const plain = losses(build());
    const half = plain.length / 2;
    expect(dropped.slice(half)).toEqual(plain.slice(half));
    expect(dropped.slice(0, half)).not.toEqual(plain.slice(0, half));
    expect(plain.slice(0, half)).toEqual(plain.slice(half));
  });

  test("one thread and two give the same bits", () => {
    const gradients = [1, 2].map((threads) => {
      const cpu = openDevice("cpu", { threads });
      const options = {
        vocabSize: 300,
        numLayers: 2,
        dModel: 64,
        numHeads: 4,
        dInner: 96,
        memLen: 32,
        dropout: 0.1,
      };
      const moe = { numExperts: 8, gate: "balance" as const };
      const model = new TransformerXL({ ...options, moe }, new Initializer({ device: cpu, seed: 4 }));
      const tokens = Array.from({ length: 33 * 8 }, (_, i) => (i * i * 7 + i) % 300);
      scope(() => {
        const [inputs, targets] = [0, 8].map((from) =>
          indices(tokens.slice(from, from + 32 * 8), [32, 8], cpu),
        );
        let memory: Memory | null = null;
        for (let segment = 0; segment < 2; segment += 1) {
          memory = backward(() => model.loss(inputs!, targets!, memory)).memory;
        }
      });
      const values = model.parameters().map((parameter) => parameter.gradient().dataSync());
      model.dispose();
      return values;
    });
    expect(gradients[0]!.some((gradient) => gradient.some((value: number) => value !== 0))).toBe(true);
    expect(gradients[0]).toEqual(gradients[1]);
  });

  test("live memory is flat over training steps, and nothing is left to the garbage collector", () => {
    const model = build({ dropout: 0.1, moe: { gate: "balance" } });
    let memory: Memory | null = null;
    const step = () =>
      scope(() => {
        const output = backward(() => model.loss(ids(4), ids(4, 1), memory));
        model.zeroGradients();
        disposeMemory(memory);
        memory = output.memory;
        return memory;
      });
    for (let warmup = 0; warmup < 3; warmup += 1) step();
    device.synchronize();
    const before = device.memoryStats();
    for (let count = 0; count < 20; count += 1) step();
    device.synchronize();
    expect(device.memoryStats()).toMatchObject({
      liveBytes: before.liveBytes,
      tensors: before.tensors,
      reclaimedByGc: 0,
    });
    disposeMemory(memory);
  });
});

describe("TransformerXL options", () => {
  const changes: Record<string, Changes> = {
    vocabSize: { vocabSize: 14 },
    numLayers: { numLayers: 1 },
    dModel: { dModel: 12 },
    numHeads: { numHeads: 4 },
    dHead: { dHead: 3 },
    dInner: { dInner: 7 },
    memLen: { memLen: 3 },
    extLen: { extLen: 1 },
    sameLength: { sameLength: true },
    clampLen: { clampLen: 2 },
    preNorm: { preNorm: true },
    dropout: { dropout: 0.1 },
    attentionDropout: { attentionDropout: 0.1 },
    dEmbed: { dEmbed: 4 },
    cutoffs: { cutoffs: [5] },
    divVal: { cutoffs: [5], divVal: 2 },
    tied: { tied: false },
    tieProjections: { dEmbed: 4, tieProjections: [true] },
    "no moe": { moe: null },
    "moe.numExperts": { moe: { numExperts: 5 } },
    "moe.topK": { moe: { topK: 1 } },
    "moe.gate": { moe: { gate: "smoe" } },
    "moe.layers": { moe: { layers: [1] } },
    "moe.hyperSize": { moe: { hyperSize: 6 } },
    "moe.embedDim": { moe: { embedDim: 3 } },
    "moe.hypernetScope": { moe: { hypernetScope: "shared" } },
  };
  const compared: Record<string, Changes> = { divVal: { cutoffs: [5] }, tieProjections: { dEmbed: 4 } };

  test.each(Object.keys(changes))("%s changes the model", (key) => {
    // A short memory and long segments, so that every mask and clamp has something to do.
    expect(losses(build(changes[key]), 3)).not.toEqual(losses(build(compared[key]), 3));
  });

  test.each([
    { freezeHypernet: false, trainable: ["embeddings", "w1", "b1", "w2", "b2"] },
    { trainable: ["embeddings"] },
    { freezeEmbedding: true, trainable: [] },
    { gate: "smoe" as const, trainable: ["weight", "bias"] },
    { gate: "smoe-dropout" as const, trainable: [] },
  ])("routers train as asked for: $trainable", ({ trainable, ...moe }) => {
    const parameters = [...build({ moe }).routers!.source.namedParameters()];
    expect(parameters.filter(([, parameter]) => parameter.trainable).map(([name]) => name)).toEqual(
      trainable,
    );
  });

  test("the balance loss joins the loss with its weight", () => {
    const gate = { ...gates.balance, balance: { weight: 0.5, perToken: true } };
    const [model, doubled] = [
      build({ moe: { gate } }),
      build({ moe: { gate: { ...gate, balance: { weight: 1, perToken: true } } } }),
    ];
    scope(() => {
      const [half, whole] = [model, doubled].map((m) => m.loss(ids(4), ids(4, 1)));
      const sum = half!.routing.reduce((total, { balanceLoss }) => total + balanceLoss!.dataSync()[0]!, 0);
      expect(half!.auxLoss!.dataSync()[0]).toBeCloseTo(0.5 * sum, 12);
      expect(whole!.auxLoss!.dataSync()[0]).toBeCloseTo(sum, 12);
      expect(half!.loss.dataSync()).toEqual(whole!.loss.dataSync());
    });
  });

  test.each<[Record<string, unknown>, string]>([
    [{ numHead: 2 }, 'did you mean "numHeads"?'],
    [{ numLayers: 0 }, '"numLayers" is 0'],
    [{ dModel: 7 }, '"dHead" is 3.5'],
    [{ dModel: 9, numHeads: 3 }, "even number"],
    [{ dropout: 1 }, "use 0 <= dropout < 1"],
    [{ sameLength: true, memLen: 0 }, "set memLen > 0"],
    [{ cutoffs: [99] }, "ascending integers"],
    [{ moe: { numExperts: 4, topk: 2 } }, 'did you mean "topK"?'],
    [{ moe: { numExperts: 4, topK: 5 } }, "there are 4 experts"],
    [{ moe: { numExperts: 4, layers: [2] } }, "from 0 to 1"],
    [{ moe: { numExperts: 4, gate: "smo" } }, 'did you mean "smoe"?'],
  ])("refuses %j", (changes, message) => {
    const options = { ...small, ...changes };
    expect(() => new TransformerXL(options, new Initializer({ device }))).toThrow(ConfigError);
    expect(() => new TransformerXL(options, new Initializer({ device }))).toThrow(message);
  });
});

describe("model sizes of the published configurations", () => {
  const published = {
    vocabSize: 204,
    numLayers: 4,
    dModel: 256,
    numHeads: 8,
    dHead: 64,
    dInner: 512,
    memLen: 512,
  };
  const init = () => new Initializer({ device: openDevice("cpu") });

  // The reference also counts a placeholder of 4 x (16 x 256 + 16) that its first forward pass deletes.
  test.each([
    ["HyperRouter, h = 256", { numExperts: 16 }, 24_013_132 - 16_448, 19_506_380],
    ["HyperRouter, h = 64", { numExperts: 16, hyperSize: 64 }, 20_657_740 - 16_448, 19_506_380],
    ["SMoE", { numExperts: 16, gate: "smoe" as const }, 19_521_804, 19_521_804],
  ])("%s", (_, moe, all, trainable) => {
    const model = new TransformerXL({ ...published, moe }, init());
    expect([model.countParameters(), model.countParameters("trainable")]).toEqual([all, trainable]);
    model.dispose();
  });

  test("dense", () => {
    const model = new TransformerXL({ ...published, dInner: 8192 }, init());
    expect(model.countParameters()).toBe(19_489_996);
    model.dispose();
  });
});
