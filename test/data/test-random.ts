/** A small seeded generator for property tests: xorshift32. */
export interface TestRandom {
  /** Integer in [0, n). */
  below(n: number): number;
  bytes(length: number): Uint8Array;
}

export function testRandom(seed: number): TestRandom {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x1234567) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>>= 0);
  };
  const below = (n: number): number => next() % n;
  return { below, bytes: (length) => Uint8Array.from({ length }, () => below(256)) };
}
