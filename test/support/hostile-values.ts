import type { CaseRandom } from "./random.js";

/** Values no sane caller passes. Made anew for each draw: some can be used once only. */
export function hostileValues(): unknown[] {
  return [...primitives(), ...arrays(), ...buffers(), ...objects()];
}

export function hostileValue(random: CaseRandom): unknown {
  return random.pick(hostileValues());
}

function primitives(): unknown[] {
  return [
    ...[undefined, null, true, false, "", "f32", "cpu", "reference", "\0", "0", "x".repeat(70_000), "\ud800"],
    ...[0, -0, 1, -1, 2, 7, 0.5, NaN, Infinity, -Infinity, 5e-324, 1e308, 2 ** 31, -(2 ** 31), 2 ** 32],
    ...[2 ** 53, -(2 ** 53), 2 ** 53 - 1, 2 ** 63, 2 ** 64],
    ...[0n, 1n, -(2n ** 70n), Symbol("s"), Symbol.iterator],
  ];
}

function arrays(): unknown[] {
  const sparse: number[] = [];
  sparse.length = 2 ** 32 - 1;
  const throwing = [1, 2];
  Object.defineProperty(throwing, 1, { get: boom });
  const shrinking = [2, 3, 4];
  Object.defineProperty(shrinking, 0, { get: () => ((shrinking.length = 1), 2) });
  return [
    ...[
      [],
      [1],
      [0],
      [-1],
      [3],
      [2, 3],
      [1, 0, 1],
      [1, 2, 3, 4, 5, 6, 7],
      [1e9, 1e9, 1e9],
      [2 ** 48],
      [2 ** 53],
      [1.5],
    ],
    ...[[NaN], ["1"], [[1]], [null], [1n], new Array<number>(3), sparse, throwing, shrinking],
    ...[new Proxy([1], { get: boom }), Object.freeze([2, 2]), new (class extends Array<number> {})(2, 3)],
  ];
}

function buffers(): unknown[] {
  const detached = new Float32Array(6);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  return [
    ...[new Float32Array(6), new Float64Array(6), new Int32Array(6), new Uint8Array(24), new Uint16Array(6)],
    ...[new BigInt64Array(3), new Uint8ClampedArray(24), Buffer.alloc(24), new Float32Array(0), detached],
    ...[new Float32Array(new SharedArrayBuffer(24)), new Float32Array(new ArrayBuffer(32), 8)],
    ...[new ArrayBuffer(24), new SharedArrayBuffer(24), new DataView(new ArrayBuffer(24))],
  ];
}

function objects(): unknown[] {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const throwing = { valueOf: boom, toString: boom, [Symbol.toPrimitive]: boom };
  const trapped = new Proxy({}, { get: boom, has: boom, getPrototypeOf: boom });
  const bare = Object.create(null) as unknown;
  const boxed = [1, "f32", 1n].map((value): unknown => Object(value));
  const builtIn = [
    new Date(NaN),
    /x/,
    new Map(),
    new WeakMap(),
    Promise.resolve(1),
    new Error("e"),
    globalThis,
  ];
  return [
    {},
    { length: 2 },
    throwing,
    trapped,
    bare,
    revoked.proxy,
    boom,
    new Proxy(boom, {}),
    ...boxed,
    ...builtIn,
  ];
}

function boom(): never {
  throw new Error("a getter threw");
}
