import type { DType } from "../../lib/dtype.js";
import type { NativeOps } from "../../lib/native-ops.gen.js";
import type { FloatTensor, IndexTensor, Tensor } from "../../lib/tensor.js";
import { type Expected, NdArray } from "./nd-array.js";
import { CaseRandom } from "./random.js";
import type { Tolerance } from "./tolerance.js";

/** A tensor argument of a case. Without values it is an output: it starts as a pattern nobody computes. */
export interface TensorSpec {
  /** `float` is the compute dtype of the device. */
  dtype: DType | "float";
  shape: readonly number[];
  values?: (random: CaseRandom) => ArrayLike<number>;
}

export type Argument = TensorSpec | number | boolean | string | null;
/** Arguments of one call by name, in any order. */
export type Arguments = Record<string, Argument>;

/** Arguments as an oracle sees them: tensors on the host, with the values they had before the call. */
export type Values<A> = { [Name in keyof A]: Value<A[Name]> };
type Value<T> = T extends TensorSpec ? NdArray : T;

/** A call that must fail. The message is that of `args(first case)` with `change` applied. */
export interface BadCall {
  name: string;
  change: Arguments;
  error: "ShapeError" | "DTypeError" | "ValueError";
  /** Part of the message. */
  says: string;
}

export function badShape(name: string, change: Arguments, says: string): BadCall {
  return { name, change, error: "ShapeError", says };
}

export function badDType(name: string, change: Arguments, says: string): BadCall {
  return { name, change, error: "DTypeError", says };
}

export function badValue(name: string, change: Arguments, says: string): BadCall {
  return { name, change, error: "ValueError", says };
}

/** All that is known of one op: how to call it, what it computes, what it refuses. */
export interface OpCases<S = object, A extends Arguments = Arguments> {
  op: keyof NativeOps;
  /** Case names to sizes and options. */
  cases: Record<string, NoInfer<S>>;
  /** Annotate the parameter: it says what a case is made of. */
  args: (sizes: S) => A;
  tolerance: (sizes: NoInfer<S>) => Tolerance;
  /** The formula in plain float64. Returns every output by name. */
  oracle: (values: Values<A>) => Record<string, Expected>;
  /** An output and an input that may be the same tensor. */
  inPlace?: readonly (readonly [output: string, input: string])[];
  /** Refused at the call. */
  bad?: readonly BadCall[];
  /** Content that is found out on the device: refused at the next read, and writes nothing. */
  badContent?: readonly BadCall[];
}

/** Fixes the type parameters of a case table, then forgets them. */
export function opCases<S, A extends Arguments>(table: OpCases<S, A>): OpCases {
  return table as unknown as OpCases;
}

/** A differentiable function of tensors, for the comparison with finite differences. */
export interface GradientCase {
  name: string;
  /** Tensors whose gradient is checked. */
  inputs: Record<string, TensorSpec>;
  /** Other tensors. */
  constants?: Record<string, TensorSpec>;
  /** A tensor to differentiate; the loss is its product with a random cotangent. */
  forward: (t: Tensors) => FloatTensor;
  /** Inputs whose gradient must be exactly zero. */
  zero?: readonly string[];
}

/** The tensors of a gradient case by name. */
export class Tensors {
  constructor(private readonly byName: ReadonlyMap<string, Tensor>) {}

  float<S extends readonly number[] = readonly number[]>(name: string): FloatTensor<S> {
    return this.#get(name) as FloatTensor<S>;
  }

  index<S extends readonly number[] = readonly number[]>(name: string): IndexTensor<S> {
    return this.#get(name) as IndexTensor<S>;
  }

  #get(name: string): Tensor {
    const found = this.byName.get(name);
    if (!found) throw new Error(`the case has no tensor "${name}"`);
    return found;
  }
}

/** What a `<family>.cases.ts` exports as default. */
export interface Family {
  ops: readonly OpCases[];
  gradients?: readonly GradientCase[];
}

/** Normal numbers, rounded to f32 so that every device gets the same. */
export function normal(shape: readonly number[], { mean = 0, std = 1 } = {}): TensorSpec {
  return { dtype: "float", shape, values: (random) => random.normals(sizeOf(shape), mean, std) };
}

export function uniform(shape: readonly number[], low: number, high: number): TensorSpec {
  return { dtype: "float", shape, values: (random) => random.uniforms(sizeOf(shape), low, high) };
}

/** Integers in low .. high, both included, as floats: many ties, exact sums. */
export function integers(shape: readonly number[], low: number, high: number): TensorSpec {
  return { dtype: "float", shape, values: (random) => random.integers(sizeOf(shape), low, high) };
}

/** Integers in low .. high, both included, as i32. */
export function indexRange(shape: readonly number[], low: number, high: number): TensorSpec {
  return { dtype: "i32", shape, values: (random) => random.integers(sizeOf(shape), low, high) };
}

export function floats(shape: readonly number[], values: ArrayLike<number>): TensorSpec {
  return { dtype: "float", shape, values: () => values };
}

export function int32(shape: readonly number[], values: ArrayLike<number>): TensorSpec {
  return { dtype: "i32", shape, values: () => values };
}

export function filled(shape: readonly number[], value: number): TensorSpec {
  return floats(shape, new Float64Array(sizeOf(shape)).fill(value));
}

/** The values of a spec on the host, for arguments that follow from others. */
export function drawn({ shape, values }: TensorSpec): NdArray {
  return new NdArray(shape, values?.(new CaseRandom(`drawn ${shape.join()}`)) ?? []);
}

/** A tensor that the op writes. */
export function output(shape: readonly number[], dtype: DType | "float" = "float"): TensorSpec {
  return { dtype, shape };
}

/** A tensor that is written, or added to when the op accumulates. */
export function target(shape: readonly number[], accumulate: boolean): TensorSpec {
  return accumulate ? normal(shape) : output(shape);
}

/** `when ? spec : null`, for optional arguments. */
export function optional(when: boolean, spec: TensorSpec): TensorSpec | null {
  return when ? spec : null;
}

export function isTensorSpec(argument: Argument): argument is TensorSpec {
  return typeof argument === "object" && argument !== null;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, extent) => size * extent, 1);
}
