import { checkChoice, rejectUnknownKeys } from "../options.js";
import type { Weighting } from "../ops/router.js";

/** A routing policy, as data: code that routes asks what the row says, never which gate it is. */
export interface Gate {
  /** The router's weights: made by a hypernetwork from a trained embedding, trained themselves, or left as drawn. */
  weights: "generated" | "learned" | "frozen";
  /** How kept experts are weighted: by a softmax over the kept logits, or all the same. */
  weighting: Weighting;
  /** The load-balancing loss, as part of the training loss. */
  balance: {
    /** Factor; 0 leaves the loss out. */
    weight: number;
    /** Divide by tokens, as in the Switch paper, instead of by routed pairs. Balanced loads then give 1, not 1/k. */
    perToken: boolean;
  };
}

const noBalance = { weight: 0, perToken: false };

/** The named gates. */
export const gates = {
  // Do et al. 2023: the hypernetwork is frozen, so training can only choose among the routers it can make.
  "hyper-router": { weights: "generated", weighting: "softmax_kept", balance: noBalance },
  // Its "dense" mode: for k = E, the plain average of all experts. The router gets no gradient.
  "hyper-router-uniform": { weights: "generated", weighting: "uniform", balance: noBalance },
  // Shazeer et al. 2017, KeepTopK without noise: the learned-router baseline.
  smoe: { weights: "learned", weighting: "softmax_kept", balance: noBalance },
  // Chen et al. 2023, SMoE-Dropout: a random router that never trains; meant for a growing k.
  "smoe-dropout": { weights: "frozen", weighting: "softmax_kept", balance: noBalance },
  // The learned router with a load-balancing loss; per routed pair as in the HyperRouter code, factor of Fedus et al.
  balance: { weights: "learned", weighting: "softmax_kept", balance: { weight: 0.01, perToken: false } },
} as const satisfies Record<string, Gate>;

export type GateName = keyof typeof gates;

export const gateNames = Object.keys(gates) as GateName[];

/** The gate of a name. @throws {ConfigError} for an unknown name. */
export function gateOf(gate: GateName | Gate): Gate {
  if (typeof gate === "object") return checkedGate(gate);
  return gates[checkChoice("gate", gate, gateNames)];
}

function checkedGate(gate: Gate): Gate {
  rejectUnknownKeys(gate, ["weights", "weighting", "balance"]);
  rejectUnknownKeys(gate.balance, ["weight", "perToken"]);
  checkChoice("gate.weights", gate.weights, ["generated", "learned", "frozen"]);
  checkChoice("gate.weighting", gate.weighting, ["softmax_kept", "uniform"]);
  return gate;
}
