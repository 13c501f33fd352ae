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
  const [first] = parts;
  if (!first)
    throw new ShapeError(
      "concatRows",
      "parts",
      "there is nothing to concatenate",
      "pass at least one tensor",
    );
  const rest = first.shape.slice(1);
  const total = parts.reduce((sum, part) => sum + (part.shape[0] ?? 0), 0);
  const out = empty(first.dtype, [total, ...rest] as Shape, first.device);
  const offsets: number[] = [];
  let offset = 0;
  for (const part of parts) {
    if (part.shape.slice(1).join() !== rest.join()) {
      throw new ShapeError(
        "concatRows",
        "parts",
        `[${part.shape.join(", ")}] cannot be stacked on [${first.shape.join(", ")}]`,
        "all sizes but the first must agree",
      );
    }
    offsets.push(offset);
    native().copyTensor(part.handle, out.view(part.shape, offset).handle);
    offset += part.size;
  }
  record(parts, [out], (gradients) => {
    const dOut = gradients.of(out);
    if (!dOut) return;
    parts.forEach((part, i) => {
      if (gradients.wants(part)) gradients.add(part, dOut.view(part.shape, offsets[i]));
    });
  });
  return out;
}

/** A new tensor with the elements of `x`, which gradients do not flow through. */
export function clone<D extends DType, S extends Shape>(x: Tensor<D, S>): Tensor<D, S> {
  const out = empty(x.dtype, x.shape, x.device);
  native().copyTensor(x.handle, out.handle);
  return out;
}
