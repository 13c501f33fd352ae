import type { EvaluationEvent, StepEvent } from "../train/events.js";
import { bar, duration, type Terminal } from "./terminal.js";

/** Seconds between two lines where no line can be redrawn. */
const lineInterval = 10;

export interface ProgressOptions {
  /** Updates in all, and those done before. */
  steps: number;
  done: number;
  maxSeconds: number;
  /** Updates per line in the log. */
  logEvery: number;
}

/** Shows how training goes: a bar that is redrawn, or a line now and then. */
export class Progress {
  readonly #start = performance.now();
  #lastLine = -Infinity;
  #tokens = 0;
  /** Of the last steps: a single step's loss is noisy. */
  #loss: number | undefined;

  constructor(
    private readonly terminal: Terminal,
    private readonly options: ProgressOptions,
  ) {}

  step(event: StepEvent): void {
    const { steps, logEvery } = this.options;
    const elapsed = (performance.now() - this.#start) / 1000;
    this.#tokens += event.tokens;
    this.#loss = this.#loss === undefined ? event.loss : 0.95 * this.#loss + 0.05 * event.loss;
    const step = `${String(event.step).padStart(String(steps).length)}/${String(steps)}`;
    const fields = this.#fields(event, this.#loss, elapsed).join("  ");
    const isLast = event.step === steps;
    if (event.step % logEvery === 0 || isLast) this.terminal.log(`  step ${step}  ${fields}`);
    if (this.terminal.isInteractive) {
      this.terminal.status(`${bar(event.step / steps, 24)} ${step}  ${fields}`);
    } else if (elapsed - this.#lastLine >= lineInterval || isLast) {
      this.#lastLine = elapsed;
      this.terminal.show(`  step ${step}  ${fields}`);
    }
  }

  evaluation({ step, base, dense, isBest }: EvaluationEvent): void {
    const all = dense === base ? "" : `, ${dense.bpc.toFixed(3)} with all experts`;
    const best = isBest ? "  (best so far)" : "";
    this.terminal.print(
      `  validation after step ${String(step)}: bpc ${base.bpc.toFixed(3)} with k = ${String(base.topK)}${all}${best}`,
    );
  }

  /** Seconds and tokens so far. */
  totals(): { seconds: number; tokens: number } {
    return { seconds: (performance.now() - this.#start) / 1000, tokens: this.#tokens };
  }

  #fields({ step, topK, routerEntropy }: StepEvent, loss: number, elapsed: number): string[] {
    const { steps, done, maxSeconds } = this.options;
    const left = Math.min((elapsed / (step - done)) * (steps - step), maxSeconds - elapsed);
    const entropy = routerEntropy.reduce((sum, value) => sum + value, 0) / routerEntropy.length;
    return [
      `loss ${loss.toFixed(3)}`,
      `bpc ${(loss / Math.LN2).toFixed(3)}`,
      `${String(Math.round(this.#tokens / elapsed)).padStart(5)} tok/s`,
      `left ${duration(left).padStart(4)}`,
      ...(topK > 0 ? [`k ${String(topK).padStart(2)}`] : []),
      ...(routerEntropy.length > 0 ? [`entropy ${entropy.toFixed(3)}`] : []),
    ];
  }
}
