import { describe, expect, test } from "@jest/globals";

import type { SafetensorsTensor } from "../lib/checkpoint/safetensors.js";
import { openDevice } from "../lib/device.js";
import { CheckpointError, ConfigError } from "../lib/errors.js";
import { Initializer } from "../lib/nn/initializer.js";
import { Linear } from "../lib/nn/linear.js";
import { TransformerXL } from "../lib/nn/transformer-xl.js";
import { loadReference, readReference, referenceModel } from "../lib/reference-model.js";
import { referenceSlots } from "../lib/reference-names.js";

const device = openDevice("reference");
const metadata = new Map(
  Object.entries({
    V: "9",
    L: "3",
    nh: "2",
    d: "4",
    dh: "2",
    di: "3",
    E: "2",
    k: "1",
    mem: "4",
    hyper_size: "3",
  }),
);

/** What a reference file of the model would hold. */
async function tensorsOf(model: TransformerXL, prefix: string): Promise<Map<string, SafetensorsTensor>> {
  const values = await readReference(model);
  return new Map(
    [...referenceSlots(model)].map(({ name, shape }) => [
      prefix + name,
      { dtype: "F64", shape, data: values.get(name)! },
    ]),
  );
}

describe("loadReference", () => {
  test("puts every tensor where readReference finds it", async () => {
    const withLayers = new Map([...metadata, ["moe_index", "[0, 2]"]]);
    const [from, to] = [referenceModel(withLayers, device), referenceModel(withLayers, device)];
    for (const parameter of from.parameters()) {
      parameter.set(Float64Array.from({ length: parameter.size }, () => Math.random()));
    }
    loadReference(to, await tensorsOf(from, "param3."), { prefix: "param3." });
    expect(await readReference(to)).toEqual(await readReference(from));
    const names = [...(await readReference(to)).keys()];
    expect(names).toContain("layers.2.pos_ff.gate.hypernet.2.weight");
    expect(names).toContain("layers.1.pos_ff.CoreNet.3.bias");
    expect(names).not.toContain("layers.1.pos_ff.gate.embedding");
  });

  test("names a tensor that is missing or has another shape, and changes nothing", async () => {
    const model = referenceModel(metadata, device);
    const tensors = await tensorsOf(model, "param.");
    const before = await readReference(model);
    tensors.delete("param.crit.out_layers.0.bias");
    expect(() => loadReference(model, tensors)).toThrow(CheckpointError);
    expect(() => loadReference(model, tensors)).toThrow("param.crit.out_layers.0.bias: is not in the file");
    tensors.set("param.r_w_bias", { dtype: "F64", shape: [4], data: new Float64Array(4) });
    expect(() => loadReference(model, tensors)).toThrow(
      "param.r_w_bias: has shape [4], the model's is [2, 2]",
    );
    expect(await readReference(model)).toEqual(before);
  });

  test("gradients leave out what is frozen", async () => {
    const model = referenceModel(new Map([...metadata, ["freeze_hypernet", "1"]]), device);
    const gradients = await readReference(model, "gradient");
    expect([...gradients.keys()].filter((name) => name.includes("gate."))).toEqual(
      [0, 1, 2].map((layer) => `layers.${layer}.pos_ff.gate.embedding`),
    );
  });

  test("metadata that is missing is named", () => {
    expect(() => referenceModel(new Map([["V", "3"]]), device)).toThrow(ConfigError);
    expect(() => referenceModel(new Map([["V", "3"]]), device)).toThrow('metadata "L" is missing');
  });

  test("a shared hypernetwork has no counterpart in the reference", () => {
    const moe = { numExperts: 2, hypernetScope: "shared" as const };
    const options = { vocabSize: 5, numLayers: 2, dModel: 4, numHeads: 2, dInner: 3, moe };
    const model = new TransformerXL(options, new Initializer({ device }));
    expect(() => [...referenceSlots(model)]).toThrow("no hypernetwork that layers share");
  });

  test("parts of a model keep their own names", () => {
    const linear = new Linear({ dIn: 2, dOut: 2 }, new Initializer({ device }));
    expect([...referenceSlots(linear)].map(({ name }) => name)).toEqual(["weight", "bias"]);
  });
});
