import type { DType } from "../../lib/dtype.js";

/** A tensor on the host: what an oracle reads. Row-major, like a device's. */
export class NdArray {
  readonly size: number;

  constructor(
    readonly shape: readonly number[],
    readonly data: ArrayLike<number>,
    readonly dtype: DType = "f64",
  ) {
    this.size = data.length;
  }

  /** The element at an index, one number per axis. */
  at(...index: number[]): number {
    let flat = 0;
    for (let axis = 0; axis < this.shape.length; axis++) {
      const i = index[axis]!;
      if (!(i >= 0 && i < this.shape[axis]!)) {
        throw new RangeError(`index [${index.join(", ")}] of a tensor of shape [${this.shape.join(", ")}]`);
      }
      flat = flat * this.shape[axis]! + i;
    }
    return this.data[flat]!;
  }

  /** The element at a flat index. */
  flat(i: number): number {
    if (!(i >= 0 && i < this.size)) throw new RangeError(`flat index ${i} of ${this.size} elements`);
    return this.data[i]!;
  }

  /** The last axis at an index of the axes before it. */
  row(...index: number[]): number[] {
    const width = this.shape.at(-1)!;
    const flat = index.reduce((sum, i, axis) => sum * this.shape[axis]! + i, 0);
    return Array.from({ length: width }, (_, j) => this.data[flat * width + j]!);
  }

  map<T>(fn: (value: number, i: number) => T): T[] {
    return Array.from({ length: this.size }, (_, i) => fn(this.data[i]!, i));
  }
}

/** What an oracle expects of one output. `undefined`: the op must not write this element. */
export type Expected = readonly (number | undefined)[];

/** Elements of a tensor of `shape` in row-major order, from a formula over the index. */
export function grid<T>(shape: readonly number[], formula: (...index: number[]) => T): T[] {
  const elements: T[] = [];
  const index = shape.map(() => 0);
  const walk = (axis: number): void => {
    if (axis === shape.length) {
      elements.push(formula(...index));
      return;
    }
    for (let i = 0; i < shape[axis]!; i++) {
      index[axis] = i;
      walk(axis + 1);
    }
  };
  walk(0);
  return elements;
}

/** Σ of `term(i)` for i = 0 .. count - 1. */
export function sumOf(count: number, term: (i: number) => number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += term(i);
  return sum;
}

/** 0 .. count - 1. */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}

/** log Σ exp(x). */
export function logSumExp(x: readonly number[]): number {
  const largest = Math.max(...x);
  return largest + Math.log(sumOf(x.length, (i) => Math.exp(x[i]! - largest)));
}

export function softmax(x: readonly number[]): number[] {
  const lse = logSumExp(x);
  return x.map((value) => Math.exp(value - lse));
}
