import type { KernelReport, KernelResult } from "./measure-kernels.js";

/** A figure that the kernels are to reach on an H100. */
export interface Bar {
  name: string;
  /** Where it was measured and how far it got, for people; empty: not measured. */
  measured: string;
  limit: string;
  /** null: not measured. */
  isMet: boolean | null;
}

/** How a figure is read off some rows; of several the worst counts. */
interface Figure {
  name: string;
  unit: string;
  good: "at most" | "at least";
  limit: number;
  values: { of: string; value: number }[];
}

/**
 * @param kernels What bench/cuda/kernels.ts wrote.
 * @param layerSeconds Medians of our expert layer, k = 8, forward and backward.
 */
export function barsOf(kernels: KernelReport | undefined, layerSeconds: number | undefined): Bar[] {
  const rows = kernels?.rows ?? [];
  const copy = kernels?.rates.copyBytesPerSecond ?? 0;
  const microseconds = (name: string, limit: number, wanted: (row: KernelResult) => boolean): Figure => ({
    ...{ name, unit: "us", good: "at most", limit },
    values: rows.filter(wanted).map((row) => ({ of: row.name, value: 1e6 * row.seconds.median })),
  });
  return [
    microseconds("gate + top-k + index, 11264 tokens, 16 experts", 12, ({ name }) =>
      name.startsWith("router_topk + dispatch"),
    ),
    {
      ...({
        name: "MoE layer k=8, forward + backward, bf16",
        unit: "us",
        good: "at most",
        limit: 700,
      } as const),
      values: layerSeconds === undefined ? [] : [{ of: "median", value: 1e6 * layerSeconds }],
    },
    {
      ...({ name: "expert products, 16384 tokens x 2048, bf16", unit: "TFLOP/s", good: "at least" } as const),
      limit: 300,
      values: rows
        .filter(({ size, dtype }) => size === "b4" && dtype === "bf16")
        .map(({ name, flops, seconds }) => ({ of: name, value: flops / seconds.median / 1e12 })),
    },
    {
      ...({ name: "combine, of copy bandwidth", unit: "%", good: "at least", limit: 75 } as const),
      values: rows
        .filter(({ name }) => copy > 0 && name.startsWith("combine"))
        .map(({ name, bytes, seconds }) => ({ of: name, value: (100 * bytes) / seconds.median / copy })),
    },
    microseconds(
      "relative attention [512 x 1024], batch 22, bf16",
      130,
      ({ name, dtype }) => name === "rel_attention" && dtype === "bf16",
    ),
    microseconds(
      "relative attention backward, bf16",
      420,
      ({ name, dtype }) => name === "rel_attention_backward" && dtype === "bf16",
    ),
  ].map(barOf);
}

function barOf({ name, unit, good, limit, values }: Figure): Bar {
  const badness = good === "at most" ? 1 : -1;
  const [worst] = values.toSorted((a, b) => badness * (b.value - a.value));
  const isMet = worst === undefined ? null : badness * (worst.value - limit) <= 0;
  const measured = worst === undefined ? "" : `${worst.value.toPrecision(3)} ${unit} (${worst.of})`;
  return { name, measured, limit: `${good} ${limit} ${unit}`, isMet };
}
