import { AsyncLocalStorage } from "node:async_hooks";
import { types } from "node:util";

/** What a scope owns. */
export interface Disposable {
  dispose(): void;
}

/**
 * Owns the tensors created inside it and disposes them when it ends. A recording scope (one of the autograd
 * tape) takes over the tensors of scopes inside it, because the backward pass still needs them.
 */
export class Scope {
  /** In order of creation. */
  readonly owned: Disposable[] = [];
  /** The scope around this one. */
  readonly outer = currentScope();
  constructor(readonly recording = false) {}

  /** Disposes what was created from position `begin` on, newest first. */
  release(begin = 0): void {
    while (this.owned.length > begin) this.owned.pop()?.dispose();
  }

  /** Gives up a tensor. @returns whether the scope owned it. */
  disown(tensor: Disposable): boolean {
    const index = this.owned.lastIndexOf(tensor);
    if (index >= 0) this.owned.splice(index, 1);
    return index >= 0;
  }

  /** Passes the tensors in `value` on to the scope around this one. @returns those that it passed on. */
  handOver(value: unknown): Disposable[] {
    const tensors = [...tensorsIn(value)].filter((tensor) => this.disown(tensor));
    this.outer?.owned.push(...tensors);
    return tensors;
  }
}

const storage = new AsyncLocalStorage<Scope>();

/** The innermost open scope of the running call or async function. */
export function currentScope(): Scope | undefined {
  return storage.getStore();
}

/** Runs `fn` with `scope` as the innermost one. Does not end the scope. */
export function inScope<T>(scope: Scope, fn: () => T): T {
  return storage.run(scope, fn);
}

/**
 * Runs `fn` and disposes every tensor created inside, except those it returns (a tensor, or tensors inside
 * arrays and plain objects), which pass to the enclosing scope. Works with async functions too: interleaved
 * calls never mix their tensors.
 *
 * @example const loss = scope(() => mean(mul(error, error)));
 */
export function scope<T>(fn: () => T): T {
  if (currentScope()?.recording) return fn();
  const inner = new Scope();
  return settle(
    () => inScope(inner, fn),
    (result) => {
      inner.handOver(result);
    },
    () => {
      inner.release();
    },
  );
}

/** Runs `fn`, async or not; then `done` if it succeeded, and `end` in any case. */
function settle<T>(fn: () => T, done: (result: T) => void, end: () => void): T {
  let pending = false;
  try {
    const result = fn();
    if (types.isPromise(result)) {
      pending = true;
      return result.then((value) => (done(value as T), value)).finally(end) as T;
    }
    done(result);
    return result;
  } finally {
    if (!pending) end();
  }
}

/** Tensors in a value: itself, or inside arrays and plain objects, which may contain themselves. */
function* tensorsIn(value: unknown, seen = new Set<object>()): Generator<Disposable> {
  if (typeof value !== "object" || value === null || seen.has(value)) return;
  seen.add(value);
  if (isDisposable(value)) {
    yield value;
  } else if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) {
    for (const element of Object.values(value)) yield* tensorsIn(element, seen);
  }
}

function isDisposable(value: object): value is Disposable {
  return "dispose" in value && typeof value.dispose === "function";
}
