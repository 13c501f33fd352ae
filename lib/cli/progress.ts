import type { StepEvent } from "../train/events.js";
import { bar, duration, type Terminal } from "./terminal.js";

/** Seconds between two lines where no line can be redrawn. */
const lineInterval = 10;

/** Shows how training goes: a bar that is redrawn, or a line now and then. */
export class Progress {
  readonly #start = performance.now();
  #lastLine = -Infinity;
  #tokens = 0;
  /** Of the last steps: a single step's loss is noisy. */
  #loss: number | undefined;

  constructor(
    private readonly terminal: Terminal,
    private readonly steps: number,
    private readonly maxSeconds: number,
  ) {}

  update(event: StepEvent): void {
    const elapsed = (performance.now() - this.#start) / 1000;
    this.#tokens += event.tokens;
    this.#loss = this.#loss === undefined ? event.loss : 0.95 * this.#loss + 0.05 * event.loss;
    const left = Math.min((elapsed / event.step) * (this.steps - event.step), this.maxSeconds - elapsed);
    const entropy = event.routerEntropy.reduce((sum, value) => sum + value, 0) / event.routerEntropy.length;
    const fields = [
      `loss ${this.#loss.toFixed(3)}`,
      `bpc ${(this.#loss / Math.LN2).toFixed(3)}`,
      `${Math.round(this.#tokens / elapsed)
        .toString()
        .padStart(5)} tok/s`,
      `left ${duration(left).padStart(4)}`,
      `k ${String(event.topK).padStart(2)}`,
      ...(event.routerEntropy.length > 0 ? [`entropy ${entropy.toFixed(3)}`] : []),
    ];
    const step = `${String(event.step).padStart(String(this.steps).length)}/${String(this.steps)}`;
    if (this.terminal.isInteractive) {
      this.terminal.status(`${bar(event.step / this.steps, 24)} ${step}  ${fields.join("  ")}`);
    } else if (elapsed - this.#lastLine >= lineInterval || event.step === 1 || event.step === this.steps) {
      this.#lastLine = elapsed;
      this.terminal.print(`  step ${step}  ${fields.join("  ")}`);
    }
  }

  /** Seconds and tokens so far. */
  totals(): { seconds: number; tokens: number } {
    return { seconds: (performance.now() - this.#start) / 1000, tokens: this.#tokens };
  }
}
