import type { Gradients } from "../autograd/tape.js";
import { native } from "../native.js";
import type { Activation } from "../native-ops.gen.js";
import { empty, emptyLike, type FloatTensor } from "../tensor.js";
import { combine, type Dispatch, type RoutedRows } from "./dispatch.js";
import { type Dropout, noDropout } from "./dropout.js";
import { expectRank } from "./view.js";

/** Weights of E expert feed-forward networks. */
export interface ExpertWeights {
  /** `[numExperts, ffn, dModel]` */
  w1: FloatTensor;
  /** `[numExperts, ffn]` */
  b1: FloatTensor;
  /** `[numExperts, dModel, ffn]` */
  w2: FloatTensor;
  /** `[numExperts, dModel]` */
  b2: FloatTensor;
}

/**
 * The mixture of the selected experts (Shazeer et al. 2017):
 *
 *     y_t = Σ_slot s · (W2 · dropout(act(W1 · x_t + b1)) + b2)
 *
 * Rows are gathered, biased, activated, dropped and weighted inside two grouped matrix products, and each token
 * sums its own rows, inside the second product where all go to all experts: no scatter, no atomics, one
 * `[numTokens · topK, ffn]` tensor kept for backward.
 *
 * @param x `[numTokens, dModel]`.
 * @param expertWeights s, `[numTokens, topK]`.
 * @returns `[numTokens, dModel]`.
 */
export function mixExperts(
  x: FloatTensor,
  expertWeights: FloatTensor,
  routed: Dispatch,
  weights: ExpertWeights,
  options: { activation?: Activation; dropout?: Dropout } = {},
): FloatTensor<[number, number]> {
  return combine(expertRows(x, expertWeights, routed, weights, options));
}

/** {@link mixExperts} up to the sum over a token's rows, which is left to the op that takes them. */
export function expertRows(
  x: FloatTensor,
  expertWeights: FloatTensor,
  routed: Dispatch,
  { w1, b1, w2, b2 }: ExpertWeights,
  options: { activation?: Activation; dropout?: Dropout } = {},
): RoutedRows {
  const { activation = "relu", dropout: { probability, seed, call } = noDropout } = options;
  expectRank("mixExperts", "x", x, 2);
  expectRank("mixExperts", "w1", w1, 3);
  const { ops } = native();
  const { device } = x;
  const { topK } = routed;
  const permutation = routed.permutation.handle;
  const offsets = routed.expertOffsets.handle;
  const numRouted = routed.permutation.size;
  const [numTokens = 0, dModel = 0] = x.shape;
  const ffn = w1.shape[1] ?? 0;
  const scale = expertWeights.view([numRouted]);

  const hidden = empty(device.float, [numRouted, ffn], device);
  // relu's mask can be read off its output; other activations need their input again.
  const preActivation = activation === "none" || activation === "relu" ? null : emptyLike(hidden);
  ops.groupedGemm(
    x.handle,
    w1.handle,
    b1.handle,
    scale.handle,
    permutation,
    offsets,
    hidden.handle,
    preActivation?.handle ?? null,
    topK,
    true,
    false,
    "output",
    activation,
    probability,
    seed,
    call,
  );

  const backward = (gradients: Gradients, dY: FloatTensor): void => {
    const dHidden = emptyLike(hidden);
    const dScale = emptyLike(scale);
    ops.groupedGemmDgrad(
      dY.handle,
      w2.handle,
      b2.handle,
      scale.handle,
      hidden.handle,
      preActivation?.handle ?? null,
      permutation,
      offsets,
      dHidden.handle,
      dScale.handle,
      topK,
      activation,
      probability,
      seed,
      call,
    );
    if (gradients.wants(expertWeights)) gradients.add(expertWeights, dScale.view(expertWeights.shape));
    if (gradients.wants(w2) || gradients.wants(b2)) {
      ops.groupedGemmWgrad(
        dY.handle,
        hidden.handle,
        scale.handle,
        permutation,
        offsets,
        gradients.sink(w2).handle,
        gradients.sink(b2).handle,
        topK,
        true,
        false,
        true,
      );
    }
    if (gradients.wants(w1) || gradients.wants(b1)) {
      ops.groupedGemmWgrad(
        dHidden.handle,
        x.handle,
        null,
        permutation,
        offsets,
        gradients.sink(w1).handle,
        gradients.sink(b1).handle,
        topK,
        false,
        true,
        true,
      );
    }
    if (gradients.wants(x)) {
      sumOverExperts(dHidden, { weight: w1, transposeWeight: true }, routed, gradients.target(x));
    }
  };
  const inputs = [x, expertWeights, w1, b1, w2, b2];
  const product = { weight: w2, bias: b2, scale };
  if (!routed.dense) return { rows: expertProducts(hidden, product, routed), routed, inputs, backward };
  const rows = empty(device.float, [numTokens, dModel] as [number, number], device);
  sumOverExperts(hidden, product, routed, { buffer: rows, accumulate: false });
  return { rows, routed: null, inputs, backward };
}

/** What multiplies the rows of each expert; `scale`, by flat index, is that of the bias. */
interface ExpertProduct {
  weight: FloatTensor;
  transposeWeight?: boolean;
  bias?: FloatTensor;
  scale?: FloatTensor;
}

/** `rows · W[e] + s · bias[e]` in expert order. */
function expertProducts(
  rows: FloatTensor,
  product: ExpertProduct,
  routed: Dispatch,
): FloatTensor<[number, number]> {
  const { weight, transposeWeight = false, scale } = product;
  const width = weight.shape[transposeWeight ? 2 : 1] ?? 0;
  const products = empty(rows.dtype, [routed.permutation.size, width] as [number, number], rows.device);
  native().ops.groupedGemm(
    rows.handle,
    ...operandsOf(product, routed),
    products.handle,
    null,
    routed.topK,
    false,
    transposeWeight,
    scale ? "bias" : "none",
    "none",
    0,
    0,
    0,
  );
  return products;
}

/** out[token] (+)= the sum of the products of the token's rows. */
function sumOverExperts(
  rows: FloatTensor,
  product: ExpertProduct,
  routed: Dispatch,
  { buffer: out, accumulate }: { buffer: FloatTensor; accumulate: boolean },
): void {
  const { ops } = native();
  if (routed.dense) {
    const { transposeWeight = false } = product;
    const operands = operandsOf(product, routed);
    ops.groupedGemmSum(rows.handle, ...operands, out.handle, transposeWeight, accumulate);
    return;
  }
  const products = expertProducts(rows, product, routed);
  ops.combine(products.handle, routed.inversePermutation.handle, out.handle, routed.topK, accumulate);
  products.dispose();
}

function operandsOf({ weight, bias, scale }: ExpertProduct, { permutation, expertOffsets }: Dispatch) {
  return [
    weight.handle,
    bias?.handle ?? null,
    scale?.handle ?? null,
    permutation.handle,
    expertOffsets.handle,
  ] as const;
}
