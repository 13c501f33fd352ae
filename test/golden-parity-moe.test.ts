// Families b and c: the mixture-of-experts block with generated, learned and balanced routers.
import { describe, test } from "@jest/globals";

import { backward } from "../lib/autograd/tape.js";
import type { GateName } from "../lib/moe/gates.js";
import { requireGrad } from "../lib/nn/parameter.js";
import { mul } from "../lib/ops/elementwise.js";
import { sum } from "../lib/ops/reduce.js";
import { loadReference, readReference, referenceMoE, referenceRouters } from "../lib/reference-model.js";
import { combineMatrix, devices, Golden, goldenFiles } from "./support/golden.js";

const families: [prefix: string, gate: GateName][] = [
  ["b_moe_ffn", "hyper-router"],
  ["c_naive_gate", "smoe"],
  ["c_balance_gate", "balance"],
];
const cases = families.flatMap(([prefix, gate]) => goldenFiles(prefix).map((file) => ({ file, gate })));

describe.each(devices)("mixture of experts on %s", (device) => {
  test.each(cases)("$file", async ({ file, gate }) => {
    const golden = await Golden.open(file, device);
    const routers = referenceRouters(golden.metadata, golden.device, gate);
    const { moe, norm } = referenceMoE(golden.metadata, golden.device);
    loadReference(routers, golden.tensors, { prefix: "param.gate." });
    loadReference(moe, golden.tensors);
    loadReference(norm, golden.tensors, { prefix: "param.layer_norm." });

    const forward = () => {
      const x = golden.float("in.x");
      requireGrad(x);
      const { y: core, routing } = moe.forward(norm.input(x), routers.forward()[0]!);
      return { x, core, routing, y: norm.output(x, core) };
    };
    const result = backward(() => {
      const { y, ...rest } = forward();
      return { loss: sum(mul(y, golden.float("in.cot_y"))), y, ...rest };
    });
    const { routing } = result;
    golden.compare("out.loss", result.loss, "forward");
    golden.compare("out.y", result.y, "forward");
    golden.compare("out.moe_core", result.core, "forward");
    golden.compare("out.gate_logits", routing.logits, "forward");
    golden.compareIntegers("out.topk_idx", routing.expertIndices.dataSync());
    golden.compare("out.topk_score", routing.expertWeights, "forward");
    const combine = combineMatrix(routing.expertIndices, routing.expertWeights, routers.numExperts);
    golden.compare("out.combine", combine, "forward");
    const offsets = routing.expertOffsets.dataSync();
    golden.compareIntegers(
      "out.expert_count",
      offsets.subarray(1).map((end, expert) => end - offsets[expert]!),
    );
    if (gate === "hyper-router") {
      const router = routers.forward()[0]!;
      golden.compare("out.gen_weight", router.weight, "forward");
      golden.compare("out.gen_bias", router.bias, "forward");
    }
    const gradients = async (prefix: string): Promise<void> => {
      for (const [part, module] of Object.entries({ "gate.": routers, "": moe, "layer_norm.": norm })) {
        golden.compareNamed(`${prefix}${part}`, await readReference(module, "gradient"), "gradient");
      }
    };
    golden.compare("grad.in.x", result.x.leaf!.gradient(), "gradient");
    await gradients("grad.");

    if (gate === "balance") {
      routers.zeroGradients();
      const balance = backward(() => {
        const { x, routing } = forward();
        return { loss: routing.balanceLoss!, x };
      });
      golden.compare("out.balance_loss", balance.loss, "forward");
      golden.compare("gradbal.in.x", balance.x.leaf!.gradient(), "gradient");
      golden.compareNamed("gradbal.gate.", await readReference(routers, "gradient"), "gradient");
    }
    golden.finish();
  });
});
