// Family f: adaptive log-softmax and adaptive embedding, untied.
import { describe, test } from "@jest/globals";

import { backward } from "../lib/autograd/tape.js";
import { requireGrad } from "../lib/nn/parameter.js";
import { mul } from "../lib/ops/elementwise.js";
import { mean, sum } from "../lib/ops/reduce.js";
import { loadReference, readReference, referenceAdaptive } from "../lib/reference-model.js";
import { devices, Golden, goldenFiles, inClusterOrder } from "./support/golden.js";

describe.each(devices)("adaptive softmax and embedding on %s", (device) => {
  test.each(goldenFiles("f_"))("%s", async (file) => {
    const golden = await Golden.open(file, device);
    const { softmax, embedding } = referenceAdaptive(golden.metadata, golden.device);
    loadReference(softmax, golden.tensors, { prefix: "param.crit." });
    loadReference(embedding, golden.tensors, { prefix: "param.emb." });

    const hidden = golden.float("in.hidden");
    requireGrad(hidden);
    const result = backward(() => {
      const nll = softmax.forward(hidden, golden.ids("in.target"));
      return { loss: sum(mul(nll, golden.float("in.cot_nll"))), nll, mean: mean(nll) };
    });
    const nll = result.nll.dataSync();
    golden.compare("out.loss", result.loss, "forward");
    golden.compare("out.mean_nll", result.mean, "forward");
    golden.compare("out.nll_keep_order", nll, "forward");
    golden.compare(
      "out.nll_cluster_order",
      inClusterOrder(golden, nll, golden.numbers("in.target")),
      "forward",
    );
    golden.compare("grad.in.hidden", hidden.leaf!.gradient(), "gradient");
    golden.compareNamed("grad.crit.", await readReference(softmax, "gradient"), "gradient");

    const { embedded } = backward(() => {
      const embedded = embedding.forward(golden.ids("in.emb_ids"));
      return { loss: sum(mul(embedded, golden.float("in.cot_emb"))), embedded };
    });
    golden.compare("out.emb", embedded, "forward");
    golden.compareNamed("grad.emb.", await readReference(embedding, "gradient"), "gradient");
    golden.finish();
  });
});
