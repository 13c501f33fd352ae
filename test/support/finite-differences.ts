import { backward } from "../../lib/autograd/tape.js";
import { type Device } from "../../lib/device.js";
import { requireGrad } from "../../lib/nn/parameter.js";
import { mul } from "../../lib/ops/elementwise.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/scope.js";
import { type FloatTensor, indices, type Leaf, type Tensor, tensor } from "../../lib/tensor.js";
import { type GradientCase, Tensors, type TensorSpec } from "./op-case.js";
import { CaseRandom } from "./random.js";

const step = 1e-4;

/** Both gradients of one input, flat. */
export interface GradientPair {
  input: string;
  backward: readonly number[];
  differences: readonly number[];
}

/** A gradient case on a device: its tensors, and the loss ⟨y, cotangent⟩. */
class Experiment {
  readonly inputs = new Map<string, FloatTensor>();
  readonly #all = new Map<string, Tensor>();
  #cotangent: FloatTensor | undefined;

  constructor(
    private readonly of: GradientCase,
    private readonly device: Device,
  ) {
    for (const [name, spec] of Object.entries(of.inputs))
      this.inputs.set(name, this.#place(name, spec) as FloatTensor);
    for (const [name, spec] of Object.entries(of.constants ?? {})) {
      if (!this.inputs.has(name)) this.#place(name, spec);
    }
  }

  #place(name: string, { dtype, shape, values }: TensorSpec): Tensor {
    const numbers = values?.(new CaseRandom(`${this.of.name} ${name}`)) ?? [];
    const make = dtype === "i32" ? indices : tensor;
    const placed = make(numbers, shape, this.device);
    this.#all.set(name, placed);
    return placed;
  }

  loss(): FloatTensor {
    const y = this.of.forward(new Tensors(this.#all));
    this.#cotangent ??= tensor(
      new CaseRandom(`${this.of.name} cotangent`).normals(y.size, 0, 1),
      y.shape,
      this.device,
    ).keep();
    return sum(mul(y, this.#cotangent));
  }

  lossValue(): number {
    return scope(() => this.loss().dataSync()[0]!);
  }

  dispose(): void {
    this.#cotangent?.dispose();
  }
}

/**
 * The gradients of all inputs of a case, by backward on a device and by 4-point central differences in float64.
 *
 * @param oracle Where the differences are taken: `reference`.
 */
export function gradientPairs(of: GradientCase, device: Device, oracle: Device): GradientPair[] {
  const differences = scope(() => {
    const experiment = new Experiment(of, oracle);
    const each = new Map<string, number[]>();
    for (const [name, input] of experiment.inputs) {
      each.set(
        name,
        centralDifferences(input, () => experiment.lossValue()),
      );
    }
    experiment.dispose();
    return each;
  });
  return [...backwardGradients(of, device)].map(([input, backward]) => ({
    input,
    backward,
    differences: differences.get(input)!,
  }));
}

function backwardGradients(of: GradientCase, device: Device): Map<string, number[]> {
  return scope(() => {
    const experiment = new Experiment(of, device);
    const leaves = new Map<string, Leaf>();
    for (const [name, input] of experiment.inputs) leaves.set(name, requireGrad(input));
    backward(() => experiment.loss());
    const gradients = new Map<string, number[]>();
    for (const [name, leaf] of leaves) gradients.set(name, Array.from(leaf.gradient().dataSync()));
    experiment.dispose();
    for (const input of experiment.inputs.values()) input.dispose();
    for (const leaf of leaves.values()) leaf.gradient().dispose();
    return gradients;
  });
}

/** f'(x) ≈ (8 (f(x + h) - f(x - h)) - (f(x + 2h) - f(x - 2h))) / 12h, for each element of x. */
function centralDifferences(x: FloatTensor, loss: () => number): number[] {
  const values = Array.from(x.dataSync());
  const at = (i: number, offset: number): number => {
    const moved = Float64Array.from(values);
    moved[i]! += offset;
    x.set(moved);
    return loss();
  };
  const slopes = values.map((_, i) => {
    const near = at(i, step) - at(i, -step);
    const far = at(i, 2 * step) - at(i, -2 * step);
    return (8 * near - far) / (12 * step);
  });
  x.set(Float64Array.from(values));
  return slopes;
}
