import { arrayOf, type ArrayOf, type DType, type FloatDType } from "./dtype.js";
import { countReclaimed, type Device, openDevice } from "./device.js";
import { DisposedTensorError, ShapeError, ValueError } from "./errors.js";
import { type Handle, native } from "./native.js";
import { currentScope } from "./scope.js";

/** Sizes of the axes, outermost first. Scalars have shape `[1]`. */
export type Shape = readonly number[];

/** Something whose gradient is kept: a parameter, or a tensor given to `requireGrad`. */
export interface Leaf {
  /** Whether a backward pass adds to the gradient. */
  readonly trainable: boolean;
  /** The buffer the gradient accumulates in, of the value's shape. Created as zeros at first use. */
  gradient(): Tensor<FloatDType>;
  /** Told when the value was written to, so that results derived from it are made again. */
  changed(): void;
}

/** A float tensor of the device's compute dtype. */
export type FloatTensor<S extends Shape = Shape> = Tensor<FloatDType, S>;
/** Indices, counts and token ids. */
export type IndexTensor<S extends Shape = Shape> = Tensor<"i32", S>;

/** Set HYPERROUTER_DEBUG=tensors to learn where a leaked or disposed tensor was created. */
const recordsSites = (process.env["HYPERROUTER_DEBUG"] ?? "").split(",").includes("tensors");

const registry = new FinalizationRegistry<{ handle: Handle; site: string | undefined }>(
  ({ handle, site }) => {
    countReclaimed();
    native().releaseTensor(handle);
    if (recordsSites)
      process.emitWarning(`a tensor was never disposed and the garbage collector freed it: ${site ?? ""}`);
  },
);

/**
 * A dense, row-major array on a device. The value may still be in the making: reading it waits, nothing else
 * does.
 *
 * A tensor belongs to the innermost open {@link scope} and is freed with it. `using t = ...`, {@link dispose}
 * and {@link keep} say otherwise. Ops borrow their arguments. Views (`view`, `reshape`, `rows`) share memory
 * with their base and keep it alive.
 *
 * @typeParam D Element type.
 * @typeParam S Shape; literal where it is known at compile time.
 */
export class Tensor<D extends DType = DType, S extends Shape = Shape> {
  /** Set on parameters and on tensors given to `requireGrad`. */
  leaf: Leaf | undefined;
  #handle: Handle | undefined;
  readonly #site: string | undefined;

  /** @internal Use `tensor`, `zeros`, `empty` or an op. */
  constructor(
    handle: Handle,
    readonly dtype: D,
    readonly shape: S,
    readonly device: Device,
    /** Whether another tensor may share the memory. */
    readonly isView = false,
  ) {
    this.#handle = handle;
    this.#site = recordsSites ? creationSite() : undefined;
    registry.register(this, { handle, site: this.#site }, this);
    currentScope()?.owned.push(this);
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  get isDisposed(): boolean {
    return this.#handle === undefined;
  }

  /** @throws {DisposedTensorError} once the tensor was freed. */
  get handle(): Handle {
    if (this.#handle === undefined) {
      throw new DisposedTensorError(`${this.#describe()} was freed, by dispose() or when its scope ended`);
    }
    return this.#handle;
  }

  /** Reads the elements, in row-major order, once the ops queued so far have run. The array is the caller's. */
  async data(): Promise<ArrayOf[D]> {
    return arrayOf(this.dtype, await native().download(this.handle));
  }

  /** Like {@link data}, but blocks. For tests and scripts. */
  dataSync(): ArrayOf[D] {
    return arrayOf(this.dtype, native().downloadSync(this.handle));
  }

  /** Reads the value of a tensor with one element. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new ShapeError(
        "item",
        "tensor",
        `the tensor has shape [${this.shape.join(", ")}], expected one element`,
      );
    }
    return (await this.data())[0] ?? NaN;
  }

  /** Replaces the elements. The array is copied before the call returns. */
  set(values: ArrayOf[D]): this {
    native().upload(this.handle, values);
    this.leaf?.changed();
    return this;
  }

  /** A tensor over the same memory: `shape` elements from element `offset` on. Gradients do not flow through it. */
  view<T extends Shape>(shape: T, offset = 0): Tensor<D, T> {
    return new Tensor(native().viewTensor(this.handle, offset, shape), this.dtype, shape, this.device, true);
  }

  /** Takes the tensor out of its scope: it lives until it is disposed. */
  keep(): this {
    let scope = currentScope();
    while (scope && !scope.disown(this)) scope = scope.outer;
    return this;
  }

  /** Frees the tensor now. Memory is reused once every op queued so far is done with it. Safe to call twice. */
  dispose(): void {
    if (this.#handle === undefined) return;
    registry.unregister(this);
    native().releaseTensor(this.#handle);
    this.#handle = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #describe(): string {
    const where = this.#site ?? "set HYPERROUTER_DEBUG=tensors to see where it was created";
    return `${this.dtype} tensor [${this.shape.join(", ")}] (${where})`;
  }
}

export function sizeOf(shape: Shape): number {
  return shape.reduce((size, extent) => size * extent, 1);
}

/** A tensor whose elements are not set. */
export function empty<D extends DType, const S extends Shape>(
  dtype: D,
  shape: S,
  device: Device,
): Tensor<D, S> {
  return new Tensor(native().createTensor(device.id, dtype, shape), dtype, shape, device);
}

/** A tensor with the shape, dtype and device of another; elements not set. */
export function emptyLike<D extends DType, S extends Shape>(like: Tensor<D, S>): Tensor<D, S> {
  return empty(like.dtype, like.shape, like.device);
}

export function zeros<const S extends Shape>(shape: S, device = openDevice()): FloatTensor<S> {
  const out = empty(device.float, shape, device);
  native().ops.fill(out.handle, 0);
  return out;
}

/** A float tensor from numbers in row-major order. */
export function tensor<const S extends Shape>(
  values: ArrayLike<number>,
  shape: S,
  device = openDevice(),
): FloatTensor<S> {
  checkLength(values, shape);
  const out = empty(device.float, shape, device);
  return out.set(arrayOf(device.float, values));
}

/** An i32 tensor from integers in row-major order. @throws {ValueError} for a value that is no 32-bit integer. */
export function indices<const S extends Shape>(
  values: ArrayLike<number>,
  shape: S,
  device = openDevice(),
): IndexTensor<S> {
  checkLength(values, shape);
  const integers = Int32Array.from(values);
  const bad = integers.findIndex((integer, i) => integer !== values[i]);
  if (bad >= 0) {
    const reason = `values[${String(bad)}] is ${String(values[bad])}, which is no 32-bit integer`;
    throw new ValueError("indices", "values", reason, "pass integers from -2147483648 to 2147483647");
  }
  return empty("i32", shape, device).set(integers);
}

function checkLength(values: ArrayLike<number>, shape: Shape): void {
  if (values.length === sizeOf(shape)) return;
  throw new ShapeError(
    "tensor",
    "values",
    `${String(values.length)} values do not fill shape [${shape.join(", ")}] of ${String(sizeOf(shape))} elements`,
    "pass as many values as the shape has elements",
  );
}

/** The first stack frame outside of this library. */
function creationSite(): string {
  const frames = (new Error().stack ?? "").split("\n").slice(1);
  const site = frames.find((frame) => !/[/\\](lib|dist)[/\\]|node:/.test(frame)) ?? frames.at(-1) ?? "";
  return `created ${site.trim()}`;
}
