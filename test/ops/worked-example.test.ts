import { expect, test } from "@jest/globals";
import { backward } from "../../lib/autograd/tape.js";
import { requireGrad } from "../../lib/nn/parameter.js";
import { mul } from "../../lib/ops/elementwise.js";
import { generateRouters } from "../../lib/ops/hyper-router.js";
import { sum } from "../../lib/ops/reduce.js";
import { routerTopK } from "../../lib/ops/router.js";
import { reshape } from "../../lib/ops/view.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, tensor, zeros } from "../../lib/tensor.js";
import { reference } from "../support/op-harness.js";

// Small enough to check by hand: embedding e = (1, -2), identity first layer, one active hidden unit.
test("a hyper router of two hidden units and three experts, forward and backward", () => {
  scope(() => {
    const device = reference();
    const embedding = tensor([1, -2], [1, 2], device);
    const x = tensor([2, 1], [1, 2], device);
    const leaves = [embedding, x].map(requireGrad);
    const firstColumn = [1, 0, 0.5, 0, 1, -0.5, -1, 1, 0.25];
    const network = {
      w1: tensor([1, 0, 0, 1], [1, 2, 2], device),
      b1: zeros([1, 2], device),
      // The second column meets a dead unit: its numbers do not matter.
      w2: tensor(
        firstColumn.flatMap((value, row) => [value, row - 4]),
        [1, 9, 2],
        device,
      ),
      b2: zeros([1, 9], device),
    };
    const upstream = tensor([1, 0], [1, 2], device);
    const rounded = (t: FloatTensor): number[] =>
      Array.from(t.dataSync(), (value) => Number(value.toFixed(6)));

    const { weight, bias, logits, expertIndices, expertWeights } = backward(() => {
      const routers = generateRouters(embedding, network, 3);
      const weight = reshape(routers.weight, [3, 2]);
      const bias = reshape(routers.bias, [3]);
      const chosen = routerTopK(x, weight, bias, 2);
      return { ...chosen, weight, bias, loss: sum(mul(chosen.expertWeights, upstream)) };
    });
    expect(rounded(weight)).toEqual([1, 0, 0, 1, -1, 1]);
    expect(rounded(bias)).toEqual([0.5, -0.5, 0.25]);
    expect(rounded(logits)).toEqual([2.5, 0.5, -0.75]);
    expect(Array.from(expertIndices.dataSync())).toEqual([0, 1]);
    expect(rounded(expertWeights)).toEqual([0.880797, 0.119203]);

    const [dEmbedding, dX] = leaves.map((leaf) => rounded(leaf.gradient()));
    expect(dX).toEqual([0.104994, -0.104994]);
    expect(dEmbedding).toEqual([0.209987, 0]);
    for (const t of [embedding, x, ...leaves.map((leaf) => leaf.gradient())]) t.dispose();
  });
});
