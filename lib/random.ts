/** One call of a random op: element i of the result depends on `(seed, call, i)` alone, on every device. */
export interface RandomCall {
  /** Key, a non-negative integer below 2^53. */
  seed: number;
  /** Number of the call within the stream. */
  call: number;
}

/**
 * A named stream of random calls (Philox counters). Streams of one seed with different purposes are independent,
 * and `calls` is the whole state: a stream that is restored goes on bit for bit.
 */
export class RandomStream {
  readonly seed: number;

  constructor(
    seed: number,
    /** What the stream is for: `weights`, `hypernetwork`, `dropout`, ... */
    readonly purpose: string,
    /** Calls made so far. */
    public calls = 0,
  ) {
    this.seed = deriveSeed(seed, purpose);
  }

  next(): RandomCall {
    return { seed: this.seed, call: this.calls++ };
  }
}

/** Mixes a seed and a purpose into 52 bits (FNV-1a over both, finished by the 64-bit mixer of SplitMix64). */
function deriveSeed(seed: number, purpose: string): number {
  const mask = (1n << 64n) - 1n;
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(`${String(seed)}/${purpose}`)) {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & mask;
  }
  hash = ((hash ^ (hash >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  hash = ((hash ^ (hash >> 27n)) * 0x94d049bb133111ebn) & mask;
  return Number((hash ^ (hash >> 31n)) >> 12n);
}
