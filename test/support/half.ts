import type { DType } from "../../lib/dtype.js";

/** Rounds to a multiple of 2^exponent, ties to even. */
function roundTo(x: number, exponent: number): number {
  const scaled = x / 2 ** exponent;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  return (up ? floor + 1 : floor) * 2 ** exponent;
}

/** A number rounded to what `dtype` can hold. */
export function rounded(value: number, dtype: DType): number {
  return fromBits(toBits(value, dtype), dtype);
}

interface Format {
  mantissaBits: number;
  lowestExponent: number;
  highestExponent: number;
}

const formats: Partial<Record<DType, Format>> = {
  bf16: { mantissaBits: 7, lowestExponent: -126, highestExponent: 127 },
  f16: { mantissaBits: 10, lowestExponent: -14, highestExponent: 15 },
};

/** What an array of `dtype` holds for a number: the number itself, rounded; for half precision its bits. */
export function toBits(value: number, dtype: DType): number {
  const format = formats[dtype];
  if (format) return halfBits(value, format);
  if (dtype === "f32") return Math.fround(value);
  if (dtype === "f64") return value;
  if (Number.isNaN(value)) return 0;
  return Math.min(Math.max(Math.trunc(value), -(2 ** 31)), 2 ** 31 - 1);
}

/** The number that an element of an array of `dtype` stands for. */
export function fromBits(bits: number, dtype: DType): number {
  const format = formats[dtype];
  if (!format) return bits;
  const { mantissaBits, lowestExponent } = format;
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> mantissaBits;
  const mantissa = bits & (2 ** mantissaBits - 1);
  if (exponent === 2 ** (15 - mantissaBits) - 1) return mantissa ? NaN : sign * Infinity;
  if (exponent === 0) return sign * mantissa * 2 ** (lowestExponent - mantissaBits);
  return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - 1 + lowestExponent);
}

function halfBits(value: number, { mantissaBits, lowestExponent, highestExponent }: Format): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const infinity = (2 ** (15 - mantissaBits) - 1) << mantissaBits;
  if (Number.isNaN(value)) return infinity | 1;
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return sign | infinity;
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), lowestExponent);
  const rounded = roundTo(magnitude, exponent - mantissaBits);
  if (rounded >= 2 ** (highestExponent + 1)) return sign | infinity;
  if (rounded < 2 ** lowestExponent) return sign | (rounded / 2 ** (lowestExponent - mantissaBits));
  const finalExponent = Math.floor(Math.log2(rounded));
  const mantissa = (rounded / 2 ** finalExponent - 1) * 2 ** mantissaBits;
  return sign | ((finalExponent - lowestExponent + 1) << mantissaBits) | mantissa;
}
