import { matmul } from "../../lib/ops/gemm.js";
import { generateRouters } from "../../lib/ops/hyper-router.js";
import { routerTopK } from "../../lib/ops/router.js";
import { reshape, rows } from "../../lib/ops/view.js";
import { grid, type NdArray, range, sumOf } from "../support/nd-array.js";
import {
  badShape,
  badValue,
  type Family,
  type GradientCase,
  normal,
  opCases,
  optional,
  output,
  type Tensors,
} from "../support/op-case.js";
import { reduction } from "../support/tolerance.js";

interface Sizes {
  layers: number;
  networks: number;
  embed: number;
  hyper: number;
  experts: number;
  d: number;
  /** Which gradients are wanted; default all. */
  wants?: "all" | "embedding" | "network";
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { layers: 3, networks: 3, embed: 7, hyper: 33, experts: 5, d: 17 },
  "one of everything": { layers: 1, networks: 1, embed: 1, hyper: 1, experts: 1, d: 1 },
  "one network for all layers": {
    layers: 4,
    networks: 1,
    embed: 9,
    hyper: 31,
    experts: 3,
    d: 7,
    wants: "embedding",
  },
  "one expert": { layers: 2, networks: 2, embed: 5, hyper: 16, experts: 1, d: 33, wants: "network" },
  "many hidden units": { layers: 2, networks: 1, embed: 130, hyper: 1029, experts: 1, d: 2 },
  "several tasks": { layers: 2, networks: 2, embed: 9, hyper: 65, experts: 8, d: 65 },
  "several tasks, one network": { layers: 2, networks: 1, embed: 9, hyper: 65, experts: 8, d: 65 },
};

const network = ({ networks, embed, hyper, experts, d }: Sizes) => ({
  w1: normal([networks, hyper, embed], { std: embed ** -0.5 }),
  b1: normal([networks, hyper]),
  w2: normal([networks, experts * (d + 1), hyper], { std: hyper ** -0.5 }),
  b2: normal([networks, experts * (d + 1)]),
});

const networkOf = (layer: number, networks: number): number => (networks === 1 ? 0 : layer);

const badNetwork = [
  badValue(
    "two networks for three layers",
    { w1: normal([2, 33, 7]) },
    '"w1" holds 2 networks, expected 1 or num_layers=3',
  ),
  badShape(
    "w1 for another embedding",
    { w1: normal([3, 33, 8]) },
    '"w1" has shape [3, 33, 8], expected [num_networks=3, hyper_size=33, embed_dim=7]',
  ),
  badShape(
    "w2 for another router",
    { w2: normal([3, 91, 33]) },
    '"w2" has shape [3, 91, 33], expected [num_networks=3, num_experts*(d_model+1)=90, hyper_size=33]',
  ),
  badShape(
    "embedding of one axis",
    { embedding: normal([21]) },
    '"embedding" has shape [21], expected [num_layers, embed_dim]',
  ),
  badShape("hidden of another shape", { hidden: normal([3, 34]) }, '"hidden" has shape [3, 34]'),
] as const;

const generate = opCases({
  op: "hyperRouterGenerate",
  cases,
  args: (sizes: Sizes) => ({
    embedding: normal([sizes.layers, sizes.embed]),
    ...network(sizes),
    hidden: output([sizes.layers, sizes.hyper]),
    routerWeight: output([sizes.layers, sizes.experts, sizes.d]),
    routerBias: output([sizes.layers, sizes.experts]),
  }),
  tolerance: ({ embed, hyper }) => reduction(embed + hyper, 1),
  oracle: ({ embedding, w1, b1, w2, b2, hidden, routerWeight, routerBias }) => {
    const [networks, hyper, embed] = w1.shape as [number, number, number];
    const d = routerWeight.shape[2]!;
    const a = grid(hidden.shape, (layer, i) => {
      const n = networkOf(layer, networks);
      return Math.max(sumOf(embed, (j) => w1.at(n, i, j) * embedding.at(layer, j)) + b1.at(n, i), 0);
    });
    const o = (layer: number, r: number): number => {
      const n = networkOf(layer, networks);
      return sumOf(hyper, (i) => w2.at(n, r, i) * a[layer * hyper + i]!) + b2.at(n, r);
    };
    return {
      hidden: a,
      routerWeight: grid(routerWeight.shape, (layer, e, j) => o(layer, e * (d + 1) + j)),
      routerBias: grid(routerBias.shape, (layer, e) => o(layer, e * (d + 1) + d)),
    };
  },
  bad: [
    ...badNetwork,
    badShape("b1 of another shape", { b1: normal([3, 32]) }, '"b1" has shape [3, 32]'),
    badShape("b2 of another shape", { b2: normal([3, 33]) }, '"b2" has shape [3, 33]'),
    badShape("bias for other experts", { routerBias: output([3, 6]) }, '"router_bias" has shape [3, 6]'),
    badShape(
      "weight for other layers",
      { routerWeight: output([2, 5, 17]) },
      '"router_weight" has shape [2, 5, 17]',
    ),
  ],
});

/** Activations with dead units, as relu leaves them. */
const deadOrAlive = (shape: number[]) => ({
  dtype: "float" as const,
  shape,
  values: (random: { normals(count: number, mean: number, std: number): number[] }) =>
    random.normals(shape[0]! * shape[1]!, 0, 1).map((value) => Math.max(value, 0)),
});

const backward = opCases({
  op: "hyperRouterBackward",
  cases,
  args: (sizes: Sizes) => {
    const { layers, networks, embed, hyper, experts, d, wants = "all" } = sizes;
    const { w1, w2 } = network(sizes);
    const trains = wants !== "embedding";
    return {
      dRouterWeight: normal([layers, experts, d]),
      dRouterBias: normal([layers, experts]),
      embedding: normal([layers, embed]),
      w1,
      w2,
      hidden: deadOrAlive([layers, hyper]),
      dEmbedding: optional(wants !== "network", normal([layers, embed])),
      dW1: optional(trains, normal(w1.shape)),
      dB1: optional(trains, normal([networks, hyper])),
      dW2: optional(trains, normal(w2.shape)),
      dB2: optional(trains, normal([networks, experts * (d + 1)])),
    };
  },
  tolerance: ({ layers, embed, hyper, experts, d }) => reduction(experts * (d + 1) + hyper + embed + layers),
  oracle: ({ dRouterWeight, dRouterBias, embedding, w1, w2, hidden, dEmbedding, dW1, dB1, dW2, dB2 }) => {
    const [layers, experts, d] = dRouterWeight.shape as [number, number, number];
    const [networks, hyper] = w1.shape as [number, number];
    const dO = (layer: number, r: number): number => {
      const [e, j] = [Math.floor(r / (d + 1)), r % (d + 1)];
      return j < d ? dRouterWeight.at(layer, e, j) : dRouterBias.at(layer, e);
    };
    const dU = range(layers).map((layer) =>
      range(hyper).map((i) => {
        if (hidden.at(layer, i) <= 0) return 0;
        return sumOf(experts * (d + 1), (r) => w2.at(networkOf(layer, networks), r, i) * dO(layer, r));
      }),
    );
    /** Adds a term of every layer of network n to what is there. */
    const added = (into: NdArray, term: (layer: number, ...index: number[]) => number): number[] =>
      grid(into.shape, (n, ...index) => {
        const own = range(layers).filter((layer) => networkOf(layer, networks) === n);
        return into.at(n, ...index) + sumOf(own.length, (i) => term(own[i]!, ...index));
      });
    return {
      ...(dEmbedding && {
        dEmbedding: grid(dEmbedding.shape, (layer, j) => {
          const n = networkOf(layer, networks);
          return dEmbedding.at(layer, j) + sumOf(hyper, (i) => w1.at(n, i, j) * dU[layer]![i]!);
        }),
      }),
      ...(dW1 && { dW1: added(dW1, (layer, i, j) => dU[layer]![i]! * embedding.at(layer, j)) }),
      ...(dB1 && { dB1: added(dB1, (layer, i) => dU[layer]![i]!) }),
      ...(dW2 && { dW2: added(dW2, (layer, r, i) => dO(layer, r) * hidden.at(layer, i)) }),
      ...(dB2 && { dB2: added(dB2, (layer, r) => dO(layer, r)) }),
    };
  },
  bad: [
    ...badNetwork,
    badShape(
      "d_router_bias of another shape",
      { dRouterBias: normal([3, 6]) },
      '"d_router_bias" has shape [3, 6]',
    ),
    badShape(
      "d_router_weight of other layers",
      { dRouterWeight: normal([4, 5, 17]) },
      '"d_router_weight" has shape [4, 5, 17]',
    ),
    badShape(
      "d_embedding of another shape",
      { dEmbedding: normal([3, 8]) },
      '"d_embedding" has shape [3, 8]',
    ),
    badShape("d_w1 of another shape", { dW1: normal([1, 33, 7]) }, '"d_w1" has shape [1, 33, 7]'),
    badShape("d_b1 of another shape", { dB1: normal([3, 32]) }, '"d_b1" has shape [3, 32]'),
    badShape("d_w2 of another shape", { dW2: normal([3, 33, 90]) }, '"d_w2" has shape [3, 33, 90]'),
    badShape("d_b2 of another shape", { dB2: normal([3, 89]) }, '"d_b2" has shape [3, 89]'),
  ],
});

const sizes = { layers: 2, networks: 2, embed: 3, hyper: 6, experts: 3, d: 2 };
const generateFrom = (t: Tensors) =>
  generateRouters(
    t.float("embeddings"),
    { w1: t.float("w1"), b1: t.float("b1"), w2: t.float("w2"), b2: t.float("b2") },
    3,
  );

/** Scores of one token under the routers of both layers. */
const scores = (t: Tensors) => {
  const { weight, bias } = generateFrom(t);
  const layers = [0, 1].map((layer) => {
    const layerWeight = reshape(rows(weight, layer, layer + 1), [3, 2]);
    const layerBias = reshape(rows(bias, layer, layer + 1), [3]);
    return routerTopK(t.float("x"), layerWeight, layerBias, 2).expertWeights;
  });
  return matmul(layers[0]!, layers[1]!, { transposeB: true });
};

const gradients: GradientCase[] = [
  {
    name: "hypernetwork frozen",
    inputs: { embeddings: normal([2, 3]) },
    constants: { ...network(sizes) },
    forward: (t) => generateFrom(t).weight,
  },
  {
    name: "hypernetwork trained, weights and biases used by routers",
    inputs: { embeddings: normal([2, 3]), ...network(sizes), x: normal([2, 2], { std: 2 }) },
    forward: scores,
  },
  {
    name: "one network for all layers, bias alone",
    inputs: { embeddings: normal([2, 3]), ...network({ ...sizes, networks: 1 }) },
    forward: (t) => generateFrom(t).bias,
  },
];

export default { ops: [generate, backward], gradients } satisfies Family;
