import { record } from "../autograd/tape.js";
import { ShapeError } from "../errors.js";
import { native } from "../native.js";
import { empty, type FloatTensor } from "../tensor.js";
import { expectRank } from "./view.js";

/** A two-layer network that maps router embeddings to routers. `numNetworks` is 1 (shared) or `numLayers`. */
export interface HypernetworkWeights {
  /** `[numNetworks, hyperSize, embedDim]` */
  w1: FloatTensor;
  /** `[numNetworks, hyperSize]` */
  b1: FloatTensor;
  /** `[numNetworks, numExperts · (dModel + 1), hyperSize]` */
  w2: FloatTensor;
  /** `[numNetworks, numExperts · (dModel + 1)]` */
  b2: FloatTensor;
}

/**
 * Generates the routers of all layers in one call (HyperRouter, Do et al. 2023):
 *
 *     M = reshape(W2 · relu(W1 · e + c1) + c2, [numExperts, dModel + 1]);   weight = M[:, :dModel], bias = M[:, dModel]
 *
 * The result depends on no token: one call serves a whole optimiser step.
 *
 * @param embeddings `[numLayers, embedDim]`, the trainable part.
 * @returns weight `[numLayers, numExperts, dModel]` and bias `[numLayers, numExperts]`.
 */
export function generateRouters(
  embeddings: FloatTensor,
  { w1, b1, w2, b2 }: HypernetworkWeights,
  numExperts: number,
): { weight: FloatTensor<[number, number, number]>; bias: FloatTensor<[number, number]> } {
  const { ops } = native();
  const { device } = embeddings;
  expectRank("generateRouters", "embeddings", embeddings, 2);
  expectRank("generateRouters", "w1", w1, 3);
  expectRank("generateRouters", "w2", w2, 3);
  if ((w2.shape[1] ?? 0) % numExperts !== 0 || (w2.shape[1] ?? 0) <= numExperts) {
    throw new ShapeError(
      "generateRouters",
      "w2",
      `"w2" has shape [${w2.shape.join(", ")}], expected [numNetworks, ${String(numExperts)}·(dModel + 1), hyperSize]`,
    );
  }
  const [numLayers = 0] = embeddings.shape;
  const hyperSize = w1.shape[1] ?? 0;
  const dModel = (w2.shape[1] ?? 0) / numExperts - 1;
  const hidden = empty(device.float, [numLayers, hyperSize], device);
  const weight = empty(device.float, [numLayers, numExperts, dModel] as [number, number, number], device);
  const bias = empty(device.float, [numLayers, numExperts] as [number, number], device);
  ops.hyperRouterGenerate(
    embeddings.handle,
    w1.handle,
    b1.handle,
    w2.handle,
    b2.handle,
    hidden.handle,
    weight.handle,
    bias.handle,
  );
  record([embeddings, w1, b1, w2, b2], [weight, bias], (gradients) => {
    const zerosFor = (output: FloatTensor): FloatTensor => {
      const filled = empty(device.float, output.shape, device);
      ops.fill(filled.handle, 0);
      return filled;
    };
    const into = (parameter: FloatTensor): number | null =>
      gradients.wants(parameter) ? gradients.accumulator(parameter).handle : null;
    ops.hyperRouterBackward(
      (gradients.of(weight) ?? zerosFor(weight)).handle,
      (gradients.of(bias) ?? zerosFor(bias)).handle,
      embeddings.handle,
      w1.handle,
      w2.handle,
      hidden.handle,
      into(embeddings),
      into(w1),
      into(b1),
      into(w2),
      into(b2),
    );
  });
  return { weight, bias };
}
