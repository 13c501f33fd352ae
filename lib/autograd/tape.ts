import { native } from "../native.js";
import { HyperRouterError, ShapeError } from "../errors.js";
import { type Disposable, inScope, Scope } from "../scope.js";
import { empty, emptyLike, type FloatTensor, Tensor } from "../tensor.js";

/**
 * What a backward rule may ask for. One rule for all gradients: they are sums over uses. The first
 * contribution to an activation's gradient is written, later ones are added; a leaf's gradient (a parameter's)
 * is always added to.
 */
export interface Gradients {
  /** The gradient of an output of this node; undefined when nothing downstream used it. */
  of(output: Tensor): FloatTensor | undefined;
  /** Whether the gradient of an input is wanted. */
  wants(input: Tensor | null | undefined): input is FloatTensor;
  /** Where to put the gradient of `input`: overwrite `buffer`, or add to it when `accumulate`. */
  target(input: FloatTensor): { buffer: FloatTensor; accumulate: boolean };
  /** Where to add the gradient of `input`: zeros, or what is there already. */
  accumulator(input: FloatTensor): FloatTensor;
  /** The accumulator of `input` when its gradient is wanted, else scratch memory for an op that always adds. */
  sink(input: FloatTensor): FloatTensor;
  /** Hands over a gradient that the rule computed, or passes one through. */
  add(input: FloatTensor, gradient: FloatTensor): void;
}

interface Node {
  outputs: readonly Tensor[];
  backward: (gradients: Gradients) => void;
  /** How many tensors the tape's scope owned when the op began. */
  ownedBefore: number;
}

/** A gradient in the making. Shared memory may only be replaced, never added to. */
interface Entry {
  buffer: FloatTensor;
  shared: boolean;
}

let active: Tape | undefined;

/**
 * The list of ops recorded by one {@link backward} call, in order. Recording is synchronous, so one variable
 * names the active tape; outside of `backward` nothing is recorded.
 */
class Tape implements Gradients {
  readonly scope = new Scope(true);
  readonly #nodes: Node[] = [];
  readonly #tracked = new Set<Tensor>();
  readonly #entries = new Map<Tensor, Entry>();
  #ownedBefore = 0;

  record(
    inputs: readonly (Tensor | null | undefined)[],
    outputs: readonly Tensor[],
    rule: Node["backward"],
  ): void {
    const ownedBefore = this.#ownedBefore;
    if (!inputs.some((input) => this.wants(input))) return;
    for (const output of outputs) this.#tracked.add(output);
    this.#nodes.push({ outputs, backward: rule, ownedBefore });
    this.#ownedBefore = this.scope.owned.length;
  }

  tracks(tensor: Tensor): boolean {
    return this.#tracked.has(tensor);
  }

  wants(input: Tensor | null | undefined): input is FloatTensor {
    return input != null && (input.leaf?.trainable === true || this.#tracked.has(input));
  }

  of(output: Tensor): FloatTensor | undefined {
    return this.#entries.get(output)?.buffer;
  }

  target(input: FloatTensor): { buffer: FloatTensor; accumulate: boolean } {
    if (input.leaf) return { buffer: input.leaf.gradient(), accumulate: true };
    const entry = this.#exclusive(input);
    if (entry) return { buffer: entry.buffer, accumulate: true };
    const buffer = empty(input.device.float, input.shape, input.device).keep();
    this.#entries.set(input, { buffer, shared: false });
    return { buffer, accumulate: false };
  }

  accumulator(input: FloatTensor): FloatTensor {
    const { buffer, accumulate } = this.target(input);
    if (!accumulate) native().ops.fill(buffer.handle, 0);
    return buffer;
  }

  sink(input: FloatTensor): FloatTensor {
    return this.wants(input) ? this.accumulator(input) : emptyLike(input as FloatTensor);
  }

  add(input: FloatTensor, gradient: FloatTensor): void {
    if (input.leaf || this.#entries.has(input)) {
      native().ops.axpby(gradient.handle, this.accumulator(input).handle, 1, 1);
    } else {
      // A view of its own, so that each holder can let go by itself.
      const buffer = gradient.view(input.shape).keep();
      this.#entries.set(input, { buffer, shared: true });
    }
  }

  /** The entry of `input`, with memory of its own. */
  #exclusive(input: FloatTensor): Entry | undefined {
    const entry = this.#entries.get(input);
    if (entry?.shared) {
      const own = empty(input.device.float, input.shape, input.device).keep();
      native().copyTensor(entry.buffer.handle, own.handle);
      entry.buffer.dispose();
      entry.buffer = own;
      entry.shared = false;
    }
    return entry;
  }

  /** Runs the rules in reverse. Each op's tensors are freed as soon as its rule has run. */
  run(loss: FloatTensor): void {
    const seed = empty(loss.device.float, loss.shape, loss.device).keep();
    native().ops.fill(seed.handle, 1);
    this.#entries.set(loss, { buffer: seed, shared: false });
    for (let node = this.#nodes.pop(); node; node = this.#nodes.pop()) {
      if (node.outputs.some((output) => this.#entries.has(output))) {
        const temporaries = new Scope();
        try {
          inScope(temporaries, () => {
            node.backward(this);
          });
        } finally {
          temporaries.release();
        }
      }
      for (const output of node.outputs) {
        this.#entries.get(output)?.buffer.dispose();
        this.#entries.delete(output);
      }
      this.scope.release(node.ownedBefore);
    }
  }

  /** Frees everything; safe after a failure. */
  end(): void {
    for (const { buffer } of this.#entries.values()) buffer.dispose();
    this.scope.release();
  }
}

/** Records an op for the active tape, if there is one and an input needs a gradient. */
export function record(
  inputs: readonly (Tensor | null | undefined)[],
  outputs: readonly Tensor[],
  rule: (gradients: Gradients) => void,
): void {
  active?.record(inputs, outputs, rule);
}

/** Whether the tensor is the result of a recorded op. */
export function isTracked(tensor: Tensor): boolean {
  return active?.tracks(tensor) ?? false;
}

/** Whether ops are being recorded. */
export function isRecording(): boolean {
  return active !== undefined;
}

/**
 * Runs `fn`, then propagates the gradient of its loss back to every trainable leaf, adding to the leaves'
 * gradients. Everything `fn` created is freed, except what it returns.
 *
 * @param fn Synchronous. Returns the loss, a tensor of shape `[1]`, or an object whose `loss` it is; other
 *   tensors in the object are returned too, detached.
 * @returns What `fn` returned. Its tensors belong to the enclosing scope.
 * @throws {ShapeError} when the loss has more than one element or is no tensor.
 * @example const { loss } = backward(() => ({ loss: mean(crossEntropy(logits, targets)) }));
 */
export function backward<T extends FloatTensor | { loss: FloatTensor }>(fn: () => T): T {
  if (active) {
    const fix = "compute both losses in one call and add them";
    throw new HyperRouterError(
      "NESTED_BACKWARD",
      "backward: it was called inside of another backward()",
      fix,
    );
  }
  const tape = new Tape();
  let results: Disposable[] = [];
  active = tape;
  try {
    const result = inScope(tape.scope, fn);
    active = undefined;
    const loss = lossIn(result);
    results = tape.scope.handOver(result);
    tape.run(loss);
    return result;
  } catch (error) {
    for (const tensor of results) tensor.dispose();
    throw error;
  } finally {
    active = undefined;
    tape.end();
  }
}

/** The loss that a function given to `backward` returned. JavaScript callers may return anything. */
function lossIn(result: unknown): FloatTensor {
  const loss = result instanceof Tensor ? result : (result as { loss?: unknown } | undefined)?.loss;
  if (loss instanceof Tensor && (loss as Tensor).size === 1) return loss as FloatTensor;
  const got = loss instanceof Tensor ? `has shape [${(loss as Tensor).shape.join(", ")}]` : "is no tensor";
  const fix = "return the mean or sum of the losses, or { loss: mean, ... }, from a synchronous function";
  throw new ShapeError("backward", "loss", `the loss ${got}, expected one element`, fix);
}
