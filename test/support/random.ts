/** Seeded numbers for test data, rounded to f32. */
export class CaseRandom {
  #state: number;

  /** @param purpose Any text; the same text gives the same numbers. */
  constructor(purpose: string) {
    let hash = 0x811c9dc5;
    for (const char of purpose) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
    this.#state = hash >>> 0;
  }

  /** In [0, 1) (Mulberry32). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }

  normals(count: number, mean: number, std: number): number[] {
    return this.#many(count, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
      return mean + std * radius * Math.cos(2 * Math.PI * this.next());
    });
  }

  uniforms(count: number, low: number, high: number): number[] {
    return this.#many(count, () => low + (high - low) * this.next());
  }

  /** In low .. high, both included. */
  integers(count: number, low: number, high: number): number[] {
    return this.#many(count, () => low + this.below(high - low + 1));
  }

  #many(count: number, draw: () => number): number[] {
    return Array.from({ length: count }, () => Math.fround(draw()));
  }
}
