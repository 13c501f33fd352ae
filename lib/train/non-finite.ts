import type { Memory } from "../nn/memory.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { countNonFinite } from "../ops/reduce.js";
import type { FloatTensor } from "../tensor.js";

/**
 * Names the first tensor with a NaN or an infinity, in the order in which a training step computes them:
 * parameters, the hidden states that enter each layer, then gradients from the last layer to the first.
 */
export async function firstNonFinite(
  model: TransformerXL,
  memories: readonly (Memory | null)[],
): Promise<string> {
  const parameters = [...model.namedParameters()];
  for (const [name, parameter] of parameters) {
    if (await hasNonFinite(parameter.value)) return name;
  }
  for (const memory of memories) {
    for (const [layer, hidden] of (memory ?? []).entries()) {
      if (await hasNonFinite(hidden))
        return layer === 0 ? "embedding output" : `layers.${String(layer - 1)} output`;
    }
  }
  for (const [name, parameter] of parameters.reverse()) {
    if (parameter.trainable && (await hasNonFinite(parameter.gradient()))) return `gradient of ${name}`;
  }
  return "loss";
}

async function hasNonFinite(tensor: FloatTensor): Promise<boolean> {
  using count = countNonFinite(tensor);
  return (await count.item()) > 0;
}
