/** Seeded random numbers on the host, for data order and sampling; devices have their own generator. */

/** Uniform numbers in [0, 1) determined by `keys` (integers) alone. */
export function seededRandom(...keys: readonly number[]): () => number {
  let state = keys.length;
  for (const key of keys) state = mix(mix(state + (key | 0)) + Math.floor(key / 2 ** 32));
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return (mix(state) >>> 0) / 2 ** 32;
  };
}

/** The 32-bit finaliser of MurmurHash3: every input bit reaches every output bit. */
function mix(value: number): number {
  let bits = value | 0;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return bits ^ (bits >>> 16);
}

/** One number of the normal distribution (Box and Muller, 1958). */
export function normal(random: () => number, mean: number, deviation: number): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random()));
  return mean + deviation * radius * Math.cos(2 * Math.PI * random());
}
