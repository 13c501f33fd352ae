import type { TokenKind } from "../data/fit-tokenizer.js";
import type { TransformerXL } from "../nn/transformer-xl.js";
import { doublingTopKs, type Evaluation } from "../train/evaluate.js";
import type { Terminal } from "./terminal.js";

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

/** Router entropy and the load of each expert, per layer, before and after training. */
export function printRouting(terminal: Terminal, before: Evaluation, after: Evaluation): void {
  const row = (layer: string, when: string, evaluation: Evaluation, index: number): string[] => {
    const load = evaluation.expertLoad[index] ?? [];
    const [entropy, most, least] = [
      evaluation.routerEntropy[index] ?? NaN,
      Math.max(...load),
      Math.min(...load),
    ];
    return [layer, when, entropy.toFixed(3), percent(most), percent(least), columns(load)];
  };
  terminal.table(
    ["layer", "", "entropy", "largest load", "smallest", "load of each expert"],
    after.routerEntropy.flatMap((_, layer) => [
      row(String(layer), "start", before, layer),
      row("", "end", after, layer),
    ]),
  );
  const experts = after.expertLoad[0]?.length ?? 0;
  terminal.print(
    terminal.dim(
      `  entropy in nats, at most ln ${String(experts)} = ${Math.log(experts).toFixed(3)}; load: share of routed ` +
        `(token, expert) pairs at k = ${String(after.topK)}, even = ${percent(1 / experts)}`,
    ),
  );
}

const heights = "▁▂▃▄▅▆▇█";

/** A column for each value, as high as its share of the largest. */
function columns(values: readonly number[]): string {
  const most = Math.max(...values);
  return values
    .map((value) => heights[Math.ceil((value / most) * heights.length) - 1] ?? heights[0])
    .join("");
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
