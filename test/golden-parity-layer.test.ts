// Family d: one Transformer-XL layer, dense or with experts.
import { describe, expect, test } from "@jest/globals";

import { backward } from "../lib/autograd/tape.js";
import { requireGrad } from "../lib/nn/parameter.js";
import { Positions } from "../lib/nn/positions.js";
import { mul } from "../lib/ops/elementwise.js";
import { sum } from "../lib/ops/reduce.js";
import { reshape } from "../lib/ops/view.js";
import { loadReference, readReference, referenceLayer, referenceRouters } from "../lib/reference-model.js";
import type { FloatTensor } from "../lib/tensor.js";
import { devices, Golden, goldenFiles } from "./support/golden.js";

function input(golden: Golden, name: string): FloatTensor {
  const x = golden.float(name);
  requireGrad(x);
  return x;
}

const neverHeld = "no [qLen, kLen] matrix exists outside of the attention kernel";

describe.each(devices)("Transformer-XL layer on %s", (device) => {
  test.each(goldenFiles("d_"))("%s", async (file) => {
    const golden = await Golden.open(file, device);
    const layer = referenceLayer(golden.metadata, golden.device);
    const routers = referenceRouters(golden.metadata, golden.device);
    const hasExperts = golden.meta("moe") === 1;
    loadReference(layer, golden.tensors);
    if (hasExperts) loadReference(routers, golden.tensors, { prefix: "param.pos_ff.gate." });
    const [qLen = 0, kLen = 0] = golden.shape("in.mask");
    const dModel = golden.meta("d_model");

    // The mask that the layer implies, and the sinusoids that a model would make.
    const mask = golden
      .numbers("in.mask")
      .map((blocked, at) => blocked - Number((at % kLen) - Math.floor(at / kLen) > kLen - qLen));
    expect(mask.every((difference) => difference === 0)).toBe(true);
    const positions = new Positions({ dModel, clampLen: golden.meta("clamp_len") }, golden.device);
    golden.compare("in.r", positions.forward(kLen), "forward");

    const hidden = input(golden, "in.w");
    const memory = golden.has("in.mems") ? input(golden, "in.mems") : null;
    const r = input(golden, "in.r");
    const contentBias = input(golden, "in.r_w_bias");
    const positionBias = input(golden, "in.r_r_bias");
    const result = backward(() => {
      const relative = { sinusoids: reshape(r, [kLen, dModel]), contentBias, positionBias };
      const attended = layer.attend(hidden, memory, relative);
      const output = layer.forward(hidden, memory, relative, hasExperts ? routers.forward()[0]! : null);
      return { loss: sum(mul(output.hidden, golden.float("in.cot_y"))), attended, ...output };
    });
    golden.compare("out.loss", result.loss, "forward");
    golden.compare("out.attn_block", result.attended, "forward");
    golden.compare("out.y", result.hidden, "forward");
    if (result.routing) {
      golden.compare("out.gate_logits", result.routing.logits, "forward");
      golden.compareIntegers("out.topk_idx", result.routing.expertIndices.dataSync());
      golden.compare("out.topk_score", result.routing.expertWeights, "forward");
      golden.compareNamed("grad.pos_ff.gate.", await readReference(routers, "gradient"), "gradient");
    }
    golden.compare("grad.in.w", hidden.leaf!.gradient(), "gradient");
    if (memory) golden.compare("grad.in.mems", memory.leaf!.gradient(), "gradient");
    golden.compare("grad.in.r", r.leaf!.gradient(), "gradient");
    golden.compare("grad.in.r_w_bias", contentBias.leaf!.gradient(), "gradient");
    golden.compare("grad.in.r_r_bias", positionBias.leaf!.gradient(), "gradient");
    golden.compareNamed("grad.", await readReference(layer, "gradient"), "gradient");
    golden.finish({
      "out.attn_prob": neverHeld,
      "out.bd_before_shift": neverHeld,
      "out.bd_after_shift": neverHeld,
    });
  });
});
