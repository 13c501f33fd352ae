import { isTracked } from "../autograd/tape.js";
import { ShapeError, ValueError } from "../errors.js";
import { native } from "../native.js";
import { empty, type FloatTensor, type Leaf, type Shape } from "../tensor.js";

/**
 * A tensor that training changes, with the gradient that `backward` accumulates.
 *
 * The value and the gradient live until the parameter is disposed. An optimiser may move both into flat memory
 * (`moveTo`): read `value` afresh instead of holding on to it.
 */
export class Parameter implements Leaf {
  /** Whether `backward` adds to the gradient and optimisers update the value. See `freeze`. */
  trainable = true;
  /** Counts changes of the value, for results derived from it. */
  get version(): number {
    return this.#version;
  }
  #version = 0;
  #value: FloatTensor;
  #gradient: FloatTensor | undefined;

  /** @param value Taken over: it leaves its scope and is disposed with the parameter. */
  constructor(value: FloatTensor) {
    this.#value = value.keep();
    this.#value.leaf = this;
  }

  get value(): FloatTensor {
    return this.#value;
  }

  get shape(): Shape {
    return this.#value.shape;
  }

  get size(): number {
    return this.#value.size;
  }

  gradient(): FloatTensor {
    if (!this.#gradient) {
      const { dtype, shape, device } = this.#value;
      this.#gradient = empty(dtype, shape, device).keep();
      this.zeroGradient();
    }
    return this.#gradient;
  }

  zeroGradient(): void {
    if (this.#gradient) native().ops.fill(this.#gradient.handle, 0);
  }

  /** Replaces the value. @throws {ShapeError} when the number of elements differs. */
  set(values: ArrayLike<number>): void {
    if (values.length !== this.size) {
      throw new ShapeError(
        "Parameter.set",
        "values",
        `${String(values.length)} values for a parameter of shape [${this.shape.join(", ")}]`,
      );
    }
    const array = this.#value.dtype === "f64" ? Float64Array.from(values) : Float32Array.from(values);
    this.#value.set(array);
  }

  changed(): void {
    this.#version += 1;
  }

  /** Moves value and gradient to other memory of the same size, copying both. Takes the tensors over. */
  moveTo(value: FloatTensor, gradient: FloatTensor): void {
    native().copyTensor(this.#value.handle, value.handle);
    if (this.#gradient) native().copyTensor(this.#gradient.handle, gradient.handle);
    else native().ops.fill(gradient.handle, 0);
    this.dispose();
    this.#value = value.keep();
    this.#value.leaf = this;
    this.#gradient = gradient.keep();
  }

  dispose(): void {
    this.#value.dispose();
    this.#gradient?.dispose();
    this.#gradient = undefined;
  }
}

/**
 * Marks a tensor as an input whose gradient is wanted. It is taken over: dispose it through the leaf.
 *
 * @returns its leaf; `gradient()` is filled by `backward`.
 * @throws {ValueError} for the result of a recorded op, whose gradient flows on, and for a tensor that has a leaf.
 */
export function requireGrad(x: FloatTensor): Parameter {
  if (x.leaf || isTracked(x)) {
    const what = x.leaf ? "belongs to a parameter" : "is the result of a recorded op";
    throw new ValueError(
      "requireGrad",
      "x",
      `the tensor ${what}`,
      "mark inputs, before backward() uses them",
    );
  }
  return new Parameter(x);
}
