import { badValue, type Family, opCases, output } from "../support/op-case.js";
import { philoxWords } from "../support/philox.js";

interface Sizes {
  shape: number[];
  seed?: number;
  call?: number;
}

const cases: Record<string, Sizes> = {
  "sizes that divide no tile": { shape: [7, 33] },
  "one of everything": { shape: [1], seed: 0, call: 0 },
  "two words": { shape: [2] },
  "three words": { shape: [3] },
  "large seed and call": { shape: [97], seed: 2 ** 53 - 1, call: 2 ** 53 - 2 },
  "several tasks": { shape: [40001] },
};

const uniform = opCases({
  op: "randomUniform",
  cases,
  args: ({ shape, seed = 11, call = 5 }: Sizes) => ({
    out: output(shape),
    low: -0.5,
    high: 1.25,
    seed,
    call,
  }),
  tolerance: () => "exact",
  oracle: ({ out, low, high, seed, call }) => ({
    out: Array.from(philoxWords({ seed, call }, out.size), (word) =>
      Math.fround(low + (high - low) * ((word >>> 8) / 2 ** 24)),
    ),
  }),
  bad: [
    badValue("high below low", { low: 2 }, '"high" must not be below "low"'),
    badValue("infinite low", { low: -Infinity }, '"low" is -inf'),
    badValue("NaN high", { high: NaN }, '"high" is nan'),
    badValue("negative seed", { seed: -1 }, '"seed" is -1'),
  ],
});

const normal = opCases({
  op: "randomNormal",
  cases,
  args: ({ shape, seed = 11, call = 5 }: Sizes) => ({ out: output(shape), mean: 0.5, std: 2, seed, call }),
  tolerance: () => "exact",
  oracle: ({ out, mean, std, seed, call }) => {
    const words = philoxWords({ seed, call }, Math.ceil(out.size / 2) * 2);
    return {
      out: out.map((_, i) => {
        const [a, b] = [words[i & ~1]!, words[i | 1]!];
        const radius = Math.sqrt(-2 * Math.log((a + 0.5) / 2 ** 32));
        const angle = 2 * Math.PI * (b / 2 ** 32);
        const z = Math.fround(radius * (i % 2 === 0 ? Math.cos(angle) : Math.sin(angle)));
        return Math.fround(mean + std * z);
      }),
    };
  },
  bad: [
    badValue("negative std", { std: -1 }, '"std" must not be negative'),
    badValue("infinite mean", { mean: Infinity }, '"mean" is inf'),
    badValue("NaN std", { std: NaN }, '"std" is nan'),
  ],
});

export default { ops: [uniform, normal] } satisfies Family;
