import { record } from "../autograd/tape.js";
import type { DType } from "../dtype.js";
import { ShapeError } from "../errors.js";
import { native } from "../native.js";
import { empty, type FloatTensor, type Leaf, type Shape, sizeOf, type Tensor } from "../tensor.js";

/**
 * Checks a tensor's rank before an op allocates outputs from its shape.
 *
 * @throws {ShapeError} naming the op and the argument.
 */
export function expectRank(op: string, arg: string, x: Tensor, rank: number): void {
  if (x.shape.length === rank) return;
  throw new ShapeError(
    op,
    arg,
    `"${arg}" has shape [${x.shape.join(", ")}], expected ${String(rank)} ${rank === 1 ? "axis" : "axes"}`,
  );
}

/** `[rows, last]`: all axes but the last flattened. A view for handing to ops; gradients do not flow through it. */
export function rowsOf<D extends DType>(x: Tensor<D>): Tensor<D, [number, number]> {
  const last = x.shape.at(-1) ?? 1;
  return x.view([x.size / last, last]);
}

/**
 * The same elements in another shape; shares memory. Gradients flow through.
 *
 * @throws {ShapeError} when the element counts differ.
 */
export function reshape<D extends DType, const S extends Shape>(x: Tensor<D>, shape: S): Tensor<D, S> {
  if (sizeOf(shape) !== x.size) {
    throw new ShapeError(
      "reshape",
      "shape",
      `[${x.shape.join(", ")}] does not reshape to [${shape.join(", ")}]`,
      `use a shape with ${String(x.size)} elements`,
    );
  }
  return viewed(x, shape, 0);
}

/**
 * Rows `begin` to `end` (exclusive) of the first axis; shares memory. Gradients flow through.
 *
 * @throws {ShapeError} when the range is empty or outside of the tensor.
 */
export function rows<D extends DType>(x: Tensor<D>, begin: number, end: number): Tensor<D> {
  const [count = 0, ...rest] = x.shape;
  if (!Number.isInteger(begin) || !Number.isInteger(end) || begin < 0 || end <= begin || end > count) {
    throw new ShapeError(
      "rows",
      "range",
      `rows ${String(begin)} to ${String(end)} of a tensor with ${String(count)} rows`,
      "use 0 <= begin < end <= number of rows",
    );
  }
  return viewed(x, [end - begin, ...rest], begin * sizeOf(rest));
}

/** `[rows, last]`: all axes but the last flattened; shares memory. Gradients flow through. */
export function flattenRows<D extends DType>(x: Tensor<D>): Tensor<D, [number, number]> {
  const last = x.shape.at(-1) ?? 1;
  return reshape(x, [x.size / last, last]);
}

/** Element `index` of the first axis: `[a, ...rest]` -> `rest`; shares memory. Gradients flow through. */
export function at<D extends DType>(x: Tensor<D>, index: number): Tensor<D> {
  return reshape(rows(x, index, index + 1), x.shape.slice(1));
}

function viewed<D extends DType, S extends Shape>(x: Tensor<D>, shape: S, offset: number): Tensor<D, S> {
  const view = x.view(shape, offset);
  if (x.leaf) {
    // Part of a parameter: its gradient is the same part of the parameter's gradient.
    view.leaf = new LeafView(x.leaf, shape, offset);
  } else {
    record([x], [view], (gradients) => {
      const dView = gradients.of(view);
      if (!dView || !gradients.wants(x)) return;
      if (view.size === x.size) {
        gradients.add(x, dView.view(x.shape));
        return;
      }
      const part = gradients.accumulator(x).view(shape, offset);
      native().ops.axpby(dView.handle, part.handle, 1, 1);
    });
  }
  return view;
}

class LeafView implements Leaf {
  constructor(
    private readonly base: Leaf,
    private readonly shape: Shape,
    private readonly offset: number,
  ) {}
  get trainable(): boolean {
    return this.base.trainable;
  }
  gradient(): FloatTensor {
    return this.base.gradient().view(this.shape, this.offset);
  }
  changed(): void {
    this.base.changed();
  }
}

/**
 * Tensors stacked along the first axis.
 *
 * @param parts Tensors that agree in all other sizes, dtype and device. One part is copied too.
 * @returns `[sum of first sizes, ...]`.
 */
export function concatRows<D extends DType>(parts: readonly Tensor<D>[]): Tensor<D> {
  const shape = stackedShape("concatRows", parts);
  const { dtype, device } = parts[0] as Tensor<D>;
  const out = empty(dtype, shape, device);
  const sections = sectionsOf(parts, (part) => part.size);
  for (const { part, offset } of sections) {
    native().copyTensor(part.handle, out.view(part.shape, offset).handle);
  }
  record(parts, [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    for (const { part, offset } of sections) {
      if (gradients.wants(part)) gradients.add(part, dOut.view(part.shape, offset));
    }
  });
  return out;
}

/**
 * The shape of `parts` stacked along the first axis.
 *
 * @throws {ShapeError} when there are none or another size differs.
 */
export function stackedShape(op: string, parts: readonly Tensor[]): Shape {
  const [first] = parts;
  if (!first) {
    throw new ShapeError(op, "parts", "there is nothing to concatenate", "pass at least one tensor");
  }
  const rest = first.shape.slice(1);
  let total = 0;
  for (const { shape } of parts) {
    if (shape.slice(1).join() !== rest.join()) {
      throw new ShapeError(
        op,
        "parts",
        `[${shape.join(", ")}] cannot be stacked on [${first.shape.join(", ")}]`,
        "all sizes but the first must agree",
      );
    }
    total += shape[0] ?? 0;
  }
  return [total, ...rest];
}

/** Where the elements of each part lie in memory that holds them one after the other. */
export function sectionsOf<T extends Tensor>(
  parts: readonly T[],
  sizeOfPart: (part: T) => number,
): { part: T; offset: number; size: number }[] {
  let offset = 0;
  return parts.map((part) => {
    const size = sizeOfPart(part);
    const section = { part, offset, size };
    offset += size;
    return section;
  });
}

/** A new tensor with the elements of `x`, which gradients do not flow through. */
export function clone<D extends DType, S extends Shape>(x: Tensor<D, S>): Tensor<D, S> {
  const out = empty(x.dtype, x.shape, x.device);
  native().copyTensor(x.handle, out.handle);
  return out;
}
