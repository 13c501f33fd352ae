import { expect } from "@jest/globals";
import { backward } from "../../lib/autograd/tape.js";
import type { Device } from "../../lib/device.js";
import { requireGrad } from "../../lib/nn/parameter.js";
import { combine, dispatch, type RoutedRows } from "../../lib/ops/dispatch.js";
import { mul } from "../../lib/ops/elementwise.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { sum } from "../../lib/ops/reduce.js";
import { clone } from "../../lib/ops/view.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, indices, tensor } from "../../lib/tensor.js";
import { CaseRandom } from "./random.js";
import { routing, type Spread } from "./routing.js";

export interface FusedNormSizes {
  tokens: number;
  d: number;
  experts: number;
  topK: number;
  spread: Spread;
}

export const fusedNormSizes: FusedNormSizes[] = [
  { tokens: 33, d: 64, experts: 4, topK: 1, spread: "dropped" },
  { tokens: 17, d: 61, experts: 6, topK: 2, spread: "random" },
  { tokens: 9, d: 300, experts: 12, topK: 11, spread: "dropped" },
  { tokens: 5, d: 602, experts: 8, topK: 5, spread: "random" },
  { tokens: 2, d: 4300, experts: 4, topK: 4, spread: "dropped" },
];

/** Expects layerNorm of routed rows to give the bits of combine and layerNorm, forward and backward. */
export function checkFusedNorm(device: Device, sizes: FusedNormSizes): void {
  scope(() => {
    const fused = normOf(device, sizes, (rows) => rows);
    const apart = normOf(device, sizes, combine);
    expect(fused.y.some((value) => value !== 0)).toBe(true);
    expect(fused).toEqual(apart);
  });
}

/** y and every gradient of the norm of x and routed rows, which `join` hands over. */
function normOf(
  device: Device,
  { tokens, d, experts, topK, spread }: FusedNormSizes,
  join: (rows: RoutedRows) => RoutedRows | FloatTensor,
) {
  const random = new CaseRandom(`fused norm ${tokens} ${d}`);
  const normal = (...shape: number[]): FloatTensor =>
    tensor(
      random.normals(
        shape.reduce((size, extent) => size * extent, 1),
        0,
        1,
      ),
      shape,
      device,
    );
  const [x, weight, bias, rows] = [normal(tokens, d), normal(d), normal(d), normal(tokens * topK, d)];
  const cotangent = normal(tokens, d);
  const leaves = [x, weight, bias, rows];
  leaves.forEach(requireGrad);
  const { expertIndices } = routing(tokens, experts, topK, spread);
  const routed = dispatch(indices(expertIndices, [tokens, topK], device), experts);
  let dSums: FloatTensor | undefined;
  const { y } = backward(() => {
    const branch = join({
      rows: clone(rows) as FloatTensor<[number, number]>,
      routed,
      inputs: [rows],
      backward: (_, gradient) => {
        dSums = clone(gradient).keep();
      },
    });
    const y = layerNorm(x, branch, weight, bias, { dropout: { probability: 0.3, seed: 5, call: 2 } });
    return { loss: sum(mul(y, cotangent)), y };
  });
  const gradients = [dSums!, ...[x, weight, bias].map((leaf) => leaf.leaf!.gradient())];
  return { y: y.dataSync(), gradients: gradients.map((gradient) => gradient.dataSync()) };
}
