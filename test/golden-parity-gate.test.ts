// Family a: the HyperRouter gate alone.
import { describe, test } from "@jest/globals";

import { backward } from "../lib/autograd/tape.js";
import { route, type Router } from "../lib/moe/router.js";
import type { Routers } from "../lib/moe/routers.js";
import type { Module } from "../lib/nn/module.js";
import { requireGrad } from "../lib/nn/parameter.js";
import { mul } from "../lib/ops/elementwise.js";
import { sum } from "../lib/ops/reduce.js";
import { clone } from "../lib/ops/view.js";
import { loadReference, readReference, referenceRouters } from "../lib/reference-model.js";
import { scope } from "../lib/scope.js";
import { type FloatTensor, type IndexTensor, tensor } from "../lib/tensor.js";
import { combineMatrix, devices, Golden, goldenFiles } from "./support/golden.js";

/** The parts of a dense cotangent at the selected experts. */
function gathered(cotangent: FloatTensor, expertIndices: IndexTensor): FloatTensor {
  const [, numExperts = 0] = cotangent.shape;
  const [, topK = 0] = expertIndices.shape;
  const dense = cotangent.dataSync();
  const kept = Float64Array.from(
    expertIndices.dataSync(),
    (expert, f) => dense[Math.floor(f / topK) * numExperts + expert]!,
  );
  return tensor(kept, expertIndices.shape, cotangent.device);
}

/** Weights and bias of each expert in one row, as the hypernetwork puts them out. */
function flatRouter({ weight, bias }: Router): Float64Array {
  const [numExperts = 0, dModel = 0] = weight.shape;
  const [weights, biases] = [weight.dataSync(), bias.dataSync()];
  const flat = new Float64Array(numExperts * (dModel + 1));
  for (let expert = 0; expert < numExperts; expert += 1) {
    flat.set(weights.subarray(expert * dModel, (expert + 1) * dModel), expert * (dModel + 1));
    flat[expert * (dModel + 1) + dModel] = biases[expert]!;
  }
  return flat;
}

async function compareGradients(
  golden: Golden,
  prefix: string,
  module: Module,
  x: FloatTensor,
): Promise<void> {
  golden.compare(`${prefix}in.x`, x.leaf!.gradient(), "gradient");
  golden.compareNamed(prefix, await readReference(module, "gradient"), "gradient");
}

/** The gradient of loss B at the generated router itself. */
function compareRouterGradient(golden: Golden, routers: Routers): void {
  const router = routers.forward()[0]!;
  const [weight, bias] = [clone(router.weight), clone(router.bias)];
  requireGrad(weight);
  requireGrad(bias);
  backward(() => {
    const { logits } = route(golden.float("in.x"), { ...router, weight, bias });
    return sum(mul(logits, golden.float("in.cot_logits")));
  });
  golden.compare("gradB.gen_weight", weight.leaf!.gradient(), "gradient");
  golden.compare("gradB.gen_bias", bias.leaf!.gradient(), "gradient");
}

describe.each(devices)("HyperRouter gate on %s", (device) => {
  test.each(goldenFiles("a_"))("%s", async (file) => {
    const golden = await Golden.open(file, device);
    const routers = referenceRouters(golden.metadata, golden.device);
    loadReference(routers, golden.tensors);
    const numExperts = golden.meta("num_expert");
    const uniform = golden.meta("dense_moe_flag") === 1;

    scope(() => {
      const router = routers.forward()[0]!;
      golden.compare("out.hyper_flat", flatRouter(router), "forward");
      golden.compare("out.gen_weight", router.weight, "forward");
      golden.compare("out.gen_bias", router.bias, "forward");
    });

    const lossA = backward(() => {
      const x = golden.float("in.x");
      requireGrad(x);
      const { logits, expertIndices, expertWeights } = route(x, routers.forward()[0]!);
      const loss = sum(mul(expertWeights, gathered(golden.float("in.cot_combine"), expertIndices)));
      return { loss, x, logits, expertIndices, expertWeights };
    });
    golden.compare("out.loss_combine", lossA.loss, "forward");
    golden.compare("out.logits", lossA.logits, "forward");
    golden.compare(
      "out.combine",
      combineMatrix(lossA.expertIndices, lossA.expertWeights, numExperts),
      "forward",
    );
    golden.compare("out.topk_score", lossA.expertWeights, "forward");
    if (!uniform) {
      golden.compareIntegers("out.topk_idx", lossA.expertIndices.dataSync());
      golden.compare("out.gate_all_scores", lossA.logits, "forward");
    }
    await compareGradients(golden, "gradA.", routers, lossA.x);

    routers.zeroGradients();
    const lossB = backward(() => {
      const x = golden.float("in.x");
      requireGrad(x);
      return { loss: sum(mul(route(x, routers.forward()[0]!).logits, golden.float("in.cot_logits"))), x };
    });
    golden.compare("out.loss_logits", lossB.loss, "forward");
    compareRouterGradient(golden, routers);
    await compareGradients(golden, "gradB.", routers, lossB.x);
    golden.finish(
      uniform
        ? {
            "out.topk_idx": "all experts have the same score; the reference's order is unspecified",
            "out.gate_all_scores": "a matrix of ones, which nothing needs",
          }
        : {},
    );
  });
});
