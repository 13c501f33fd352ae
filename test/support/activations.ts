import type { Activation } from "../../lib/ops/activation.js";

/** `act(x)` from its definition. */
export function activate(kind: Activation, x: number): number {
  switch (kind) {
    case "none":
      return x;
    case "relu":
      return Math.max(x, 0);
    case "gelu":
      return x * normalCdf(x);
    case "silu":
      return x * sigmoid(x);
    case "tanh":
      return Math.tanh(x);
    case "sigmoid":
      return sigmoid(x);
  }
}

/** `act'(x)`; 0 for relu at 0. */
export function slope(kind: Activation, x: number): number {
  switch (kind) {
    case "none":
      return 1;
    case "relu":
      return x > 0 ? 1 : 0;
    case "gelu":
      return normalCdf(x) + (x * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
    case "silu":
      return sigmoid(x) * (1 + x * sigmoid(-x));
    case "tanh":
      return 1 / Math.cosh(x) ** 2;
    case "sigmoid":
      return sigmoid(x) * sigmoid(-x);
  }
}

function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** Φ(x) = erfc(-x / √2) / 2. */
function normalCdf(x: number): number {
  return x > 0 ? 1 - upperTail(x) : upperTail(-x);
}

/** 1 - Φ(x) for x >= 0: the series of Φ(x) - 1/2 near 0, a continued fraction further out. */
function upperTail(x: number): number {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  if (x < 2) {
    // Φ(x) - 1/2 = density · (x + x³/3 + x⁵/(3·5) + ...)
    let term = x;
    let sum = x;
    for (let n = 3; Math.abs(term) > 1e-18 * sum; n += 2) sum += term *= (x * x) / n;
    return 0.5 - density * sum;
  }
  // density / (x + 1 / (x + 2 / (x + 3 / ...)))
  let fraction = x;
  for (let n = 200; n > 0; n--) fraction = x + n / fraction;
  return density / fraction;
}
