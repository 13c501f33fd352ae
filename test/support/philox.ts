/** The upper 32 bits of a product of two 32-bit words. */
function mulHigh(a: number, b: number): number {
  const [aLow, aHigh, bLow, bHigh] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const other = aLow * bHigh + (middle % 65536);
  return aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(other / 65536);
}

/** Philox4x32-10 (Salmon et al. 2011), written from the paper; the oracle of everything random. */
export function philox4x32(counter: readonly number[], key: readonly number[]): number[] {
  let [c0, c1, c2, c3] = counter as [number, number, number, number];
  let [k0, k1] = key as [number, number];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [mulHigh(0xd2511f53, c0), Math.imul(0xd2511f53, c0) >>> 0];
    const [high1, low1] = [mulHigh(0xcd9e8d57, c2), Math.imul(0xcd9e8d57, c2) >>> 0];
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** Where the random bits of one op call come from. */
export interface PhiloxCall {
  seed: number;
  call: number;
}

/** The first `count` words of the stream (seed, call): block b has the counter {b, b >> 32, call, call >> 32}. */
export function philoxWords({ seed, call }: PhiloxCall, count: number): Uint32Array {
  const halves = (x: number): [number, number] => [x % 2 ** 32, Math.floor(x / 2 ** 32)];
  const words = new Uint32Array(Math.ceil(count / 4) * 4);
  for (let block = 0; block * 4 < count; block++) {
    words.set(philox4x32([...halves(block), ...halves(call)], halves(seed)), block * 4);
  }
  return words.subarray(0, count);
}

/** What dropout multiplies element i by: 0, or 1 / (1 - p). */
export function dropoutFactors(p: number, call: PhiloxCall, count: number): number[] {
  if (p === 0) return Array.from({ length: count }, () => 1);
  const threshold = Math.min(Math.floor(p * 2 ** 32 + 0.5), 2 ** 32 - 1);
  return Array.from(philoxWords(call, count), (word) => (word >= threshold ? 1 / (1 - p) : 0));
}
