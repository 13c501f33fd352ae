// Family e: the language model on consecutive segments, and three steps of training.
import { describe, test } from "@jest/globals";

import { backward } from "../lib/autograd/tape.js";
import { type Memory, remember } from "../lib/nn/memory.js";
import type { Parameter } from "../lib/nn/parameter.js";
import type { TransformerXL } from "../lib/nn/transformer-xl.js";
import { Adam } from "../lib/optim/optimizer.js";
import { cosineLr } from "../lib/optim/schedule.js";
import { loadReference, readReference, referenceModel } from "../lib/reference-model.js";
import { referenceSlots } from "../lib/reference-names.js";
import { type FloatTensor, indices } from "../lib/tensor.js";
import { devices, Golden, goldenFiles, inClusterOrder } from "./support/golden.js";

describe.each(devices)("language model on %s", (device) => {
  test.each(goldenFiles("e_lm."))("%s", async (file) => {
    const golden = await Golden.open(file, device);
    const model = referenceModel(golden.metadata, golden.device);
    loadReference(model, golden.tensors);
    let memory: Memory | null = null;
    let top: FloatTensor | null = null;
    for (let segment = 0; golden.has(`seg${segment}.in.data`); segment += 1) {
      const prefix = `seg${segment}.`;
      model.zeroGradients();
      const result = backward(() =>
        model.loss(golden.ids(`${prefix}in.data`), golden.ids(`${prefix}in.target`), memory),
      );
      memory = result.memory;
      const nll = inClusterOrder(golden, result.nll.dataSync(), golden.numbers(`${prefix}in.target`));
      golden.compare(`${prefix}out.loss`, result.loss, "forward");
      golden.compare(`${prefix}out.nll`, nll, "forward");
      result.routing.forEach(({ expertIndices, expertWeights }, i) => {
        const gate = `${prefix}out.layers.${model.moeLayers[i]!}.pos_ff.gate.`;
        golden.compareIntegers(`${gate}topk_idx`, expertIndices.dataSync());
        golden.compare(`${gate}topk_score`, expertWeights, "forward");
      });
      // The reference also remembers what leaves the last layer, and never reads it.
      top = remember(top, result.hidden, model.memLen);
      const memories: (FloatTensor | null)[] = memory ? [...memory, top] : [];
      memories.forEach((tensor, layer) => golden.compare(`${prefix}out.mems.${layer}`, tensor!, "forward"));
      if (golden.hasAny(`${prefix}grad.`)) {
        golden.compareNamed(`${prefix}grad.`, await readReference(model, "gradient"), "gradient");
      }
    }
    golden.finish();
  });
});

/** The elements of a reference tensor in a buffer that is laid out like the optimiser's arena. */
function stateOf(optimizer: Adam, buffer: FloatTensor, model: TransformerXL): Map<string, ArrayLike<number>> {
  const data = buffer.dataSync();
  const out = new Map<string, ArrayLike<number>>();
  const trained = new Set<Parameter>(optimizer.arena.parameters);
  for (const { name, parameter, offset, shape } of referenceSlots(model)) {
    if (!trained.has(parameter)) continue;
    const begin = optimizer.arena.place(parameter).begin + offset;
    out.set(name, data.subarray(begin, begin + shape.reduce((size, extent) => size * extent, 1)));
  }
  return out;
}

describe.each(devices)("three steps of training on %s", (device) => {
  test.each(goldenFiles("e_lm_train3"))("%s", async (file) => {
    const golden = await Golden.open(file, device);
    const model = referenceModel(golden.metadata, golden.device);
    loadReference(model, golden.tensors, { prefix: "param0." });
    const optimizer = new Adam(model.parameters());
    const tokens = golden.numbers("in.tokens");
    const [length, batch] = [golden.meta("tgt"), golden.meta("B")];
    const schedule = cosineLr({ lr: golden.meta("lr"), maxSteps: golden.meta("max_step") });
    const rates = [0, 1, 2].map(schedule);
    const rows = (from: number) =>
      indices(tokens.subarray(from * batch, (from + length) * batch), [length, batch], golden.device);
    const losses: number[] = [];
    const norms: number[] = [];
    let memory: Memory | null = null;
    for (const [step, rate] of rates.entries()) {
      const result = backward(() => model.loss(rows(step * length), rows(step * length + 1), memory));
      memory = result.memory;
      if (step === 0) {
        golden.compareNamed("step0.grad_unclipped.", await readReference(model, "gradient"), "gradient");
      }
      const clip = optimizer.clip(golden.meta("clip"));
      losses.push(await result.loss.item());
      norms.push(await clip.norm.item());
      optimizer.update(rate, clip);
    }
    golden.compare("out.losses", losses, "forward");
    golden.compare("out.grad_norms", norms, "gradient");
    golden.compare("out.lrs", rates, "forward");
    golden.compareNamed("param3.", await readReference(model), "trained");
    golden.compareNamed("adam.exp_avg.", stateOf(optimizer, optimizer.state[0]!, model), "gradient");
    golden.compareNamed("adam.exp_avg_sq.", stateOf(optimizer, optimizer.state[1]!, model), "gradient");
    golden.finish();
  });
});
