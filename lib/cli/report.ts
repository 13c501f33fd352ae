import type { TokenKind } from "../data/fit-tokenizer.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { doublingTopKs, type Evaluation } from "../train/evaluate.js";
import { bar, type Terminal } from "./terminal.js";

/** Numbers of experts per token to try; 0 alone for a model without experts. */
export function allTopKs({ routers }: TransformerXL): number[] {
  return routers ? doublingTopKs(routers.numExperts) : [0];
}

/** What a token is, for people. */
export function unitOf(tokens: TokenKind): string {
  return tokens === "words" ? "word" : "character";
}

/** Bits per token for each number of experts per token. */
export function printSweep(terminal: Terminal, results: readonly Evaluation[], tokens: TokenKind): void {
  terminal.table(
    [
      "experts per token (k)",
      `bits per ${unitOf(tokens)}`,
      "nats",
      ...(tokens === "words" ? ["perplexity"] : []),
    ],
    results.map(({ topK, bpc, nats, perplexity }) => [
      topK === 0 ? "no experts" : String(topK),
      ...[bpc.toFixed(4), nats.toFixed(4), ...(tokens === "words" ? [perplexity.toFixed(2)] : [])],
    ]),
  );
}

/** Router entropy and expert load per layer, before and after training. */
export function printRouting(terminal: Terminal, before: Evaluation, after: Evaluation): void {
  const load = (evaluation: Evaluation, layer: number): readonly number[] =>
    evaluation.expertLoad[layer] ?? [];
  terminal.table(
    [
      "layer",
      "entropy at start",
      "at end",
      "largest load at start",
      "at end",
      "smallest load at start",
      "at end",
    ],
    after.routerEntropy.map((entropy, layer) => [
      String(layer),
      (before.routerEntropy[layer] ?? NaN).toFixed(3),
      entropy.toFixed(3),
      percent(Math.max(...load(before, layer))),
      percent(Math.max(...load(after, layer))),
      percent(Math.min(...load(before, layer))),
      percent(Math.min(...load(after, layer))),
    ]),
  );
  const experts = load(after, 0).length;
  terminal.print(
    terminal.dim(
      `  entropy in nats, at most ln ${String(experts)} = ${Math.log(experts).toFixed(3)}; ` +
        `load: share of routed pairs, even = ${percent(1 / experts)}`,
    ),
  );
  after.expertLoad.forEach((shares, layer) => {
    terminal.print();
    terminal.print(`  layer ${String(layer)}: load of each expert at the end`);
    const most = Math.max(...shares);
    shares.forEach((share, expert) => {
      terminal.print(`    ${String(expert).padStart(3)} ${bar(share / most, 32)} ${percent(share)}`);
    });
  });
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
