/** Element types of tensors. `bf16` and `f16` are storage types: `cast` them to compute. */
export type DType = "f32" | "f64" | "bf16" | "f16" | "i32";

/** The types a device computes in: `f32` on `cpu` and `cuda`, `f64` on `reference`. */
export type FloatDType = "f32" | "f64";

/**
 * What the matrix products of linear layers, experts and attention multiply, forward and backward. `bf16` rounds both
 * operands to nearest even and sums in float32; tensors, weights among them, stay float32. Fast where the processor
 * multiplies bf16 itself (AVX512-BF16; subnormal numbers then count as 0); elsewhere operands are rounded alike and
 * sums may differ in their last bits. `tf32` keeps 10 bits of each mantissa,
 * on GPUs only. Softmax, router and loss always compute in float32.
 */
export type ProductDType = (typeof productDTypes)[number];
export const productDTypes = ["f32", "bf16", "tf32"] as const;

/** The typed array that holds each dtype in JavaScript. Half precision travels as its bits. */
export interface ArrayOf {
  f32: Float32Array;
  f64: Float64Array;
  bf16: Uint16Array;
  f16: Uint16Array;
  i32: Int32Array;
}

const arrayTypes = {
  f32: Float32Array,
  f64: Float64Array,
  bf16: Uint16Array,
  f16: Uint16Array,
  i32: Int32Array,
} as const;

/** A typed array of `dtype` over `source`: a length, numbers, or a buffer that is shared. */
export function arrayOf<D extends DType>(
  dtype: D,
  source: number | ArrayLike<number> | ArrayBuffer,
): ArrayOf[D] {
  const ArrayType = arrayTypes[dtype] as unknown as new (
    source: number | ArrayLike<number> | ArrayBuffer,
  ) => ArrayOf[D];
  return new ArrayType(source);
}
