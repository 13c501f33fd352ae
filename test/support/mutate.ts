import type { TestRandom } from "../data/test-random.js";

const mutations: ((bytes: Buffer, at: number, random: TestRandom) => Buffer)[] = [
  // A flipped bit.
  (bytes, at, random) => {
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
    return bytes;
  },
  // A cut file.
  (bytes, _, random) => bytes.subarray(0, random.below(bytes.length)),
  // A byte left out.
  (bytes, at) => Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]),
  // A digit replaced.
  (bytes, at, random) => {
    bytes[at] = 48 + random.below(10);
    return bytes;
  },
  // A piece repeated.
  (bytes, at, random) =>
    Buffer.concat([bytes.subarray(0, at + 1), bytes.subarray(Math.max(0, at - random.below(40)))]),
  // A run of noise.
  (bytes, at, random) => {
    for (let i = at; i < Math.min(at + 8, bytes.length); i += 1) bytes[i] = random.below(256);
    return bytes;
  },
];

/** A copy of `original` damaged somewhere in its first `end` bytes, in one of six ways. */
export function mutate(original: Buffer, end: number, random: TestRandom): Buffer {
  const mutation = mutations[random.below(mutations.length)];
  return mutation?.(Buffer.from(original), random.below(end), random) ?? original;
}
