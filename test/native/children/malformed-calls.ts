// Calls every function of the addon with malformed arguments: a seeded generator, so that a crash can be repeated.
// Prints how many calls ran and how many were refused; exits 1 when anything but an error object was thrown.
import { openDevice } from "../../../lib/device.js";
import { matmul } from "../../../lib/ops/gemm.js";
import { native } from "../../../lib/native.js";
import { tensor } from "../../../lib/tensor.js";
import { hostileValue } from "../../support/hostile-values.js";
import { callOp, describedOps, loadFamilies, OpCall, type Parameter } from "../../support/op-harness.js";
import { CaseRandom } from "../../support/random.js";

const [count = "5000", seed = "1"] = process.argv.slice(2);
const random = new CaseRandom(`malformed calls ${seed}`);
const limits = { memoryLimitBytes: 64 << 20 };
const devices = ["cpu", "cpu:plain", "reference"].map((name) => openDevice(name, { ...limits, threads: 2 }));
const functions = Object.entries(native()).filter(([, value]) => typeof value === "function") as [
  string,
  (...args: unknown[]) => unknown,
][];
const ops = [...describedOps()];
const tables = [...(await loadFamilies()).values()].flatMap((family) => family.ops);

let handles: number[] = [];
const stale: number[] = [];

/** Tensors of every dtype, small shapes, and views that overlap them. */
function makeTensors(): void {
  const addon = native();
  for (const device of devices) {
    for (const dtype of ["f32", "f64", "i32", "bf16", "f16"]) {
      for (const shape of [[1], [6], [2, 3], [3, 2], [2, 1, 3]]) {
        const handle = addon.createTensor(device.id, dtype, shape);
        handles.push(handle);
        if (shape[0] !== 1)
          handles.push(addon.viewTensor(handle, 1, [2, 2]), addon.viewTensor(handle, 0, shape));
        if (dtype === "i32" && shape[0] !== 1)
          addon.upload(
            handle,
            Int32Array.from({ length: 6 }, () => garbageIndex()),
          );
      }
    }
  }
}

function garbageIndex(): number {
  return random.pick([0, 1, 2, 5, -1, -2, 6, 1000, 2147483647, -2147483648]);
}

/** Releases some tensors, so that their handles go stale, and makes new ones when few are left. */
function churn(): void {
  for (let i = 0; i < 10 && handles.length > 0; i++) {
    const [handle] = handles.splice(random.below(handles.length), 1);
    release(handle!);
  }
  if (handles.length < 50) {
    for (const handle of handles) release(handle);
    handles = [];
    makeTensors();
  }
}

/** A malformed call may have released it before. */
function release(handle: number): void {
  stale.push(handle);
  try {
    native().releaseTensor(handle);
  } catch {
    // Released already.
  }
}

function anyHandle(): unknown {
  return random.next() < 0.9
    ? random.pick(handles)
    : random.pick([random.pick(stale), -1, 2 ** 30, 2 ** 52, 0.5]);
}

/** A value of the right type for a parameter, of no sensible size. */
function typed({ kind, optional, values }: Parameter): unknown {
  switch (kind) {
    case "tensor":
      return optional && random.next() < 0.5 ? null : anyHandle();
    case "boolean":
      return random.next() < 0.5;
    case "enum":
      return random.pick(values!);
    case "integer":
      return random.pick([0, 1, 2, 3, 7, -1, 2 ** 31 - 1, 2 ** 31, 2 ** 53 - 1, -(2 ** 53 - 1)]);
    case "number":
      return random.pick([0, 1, -1, 0.5, NaN, Infinity, -Infinity, 1e308, 5e-324, 0.999999]);
  }
}

/** One malformed call, of one of four kinds. */
function malformedCall(): () => unknown {
  const kind = random.next();
  if (kind < 0.2) {
    const [name, fn] = random.pick(functions);
    const args = Array.from({ length: random.below(7) }, () =>
      random.next() < 0.4 ? anyHandle() : hostileValue(random),
    );
    return () => otherFunction(name, fn, args);
  }
  const [op, parameters] = random.pick(ops);
  if (kind < 0.4) {
    const args = Array.from({ length: random.below(20) }, () =>
      random.next() < 0.5 ? anyHandle() : hostileValue(random),
    );
    return () => callOp(op, args);
  }
  if (kind < 0.6) return () => callOp(op, parameters.map(typed));
  return nearlyValidCall();
}

/** Functions beside the ops. Some would make later calls meaningless, or need all memory of the machine. */
function otherFunction(name: string, fn: (...args: unknown[]) => unknown, args: unknown[]): unknown {
  if (name === "setErrorFactory") args = args.map((value) => (typeof value === "function" ? 0 : value));
  if (name === "openDevice") {
    args = [
      "cpu",
      random.pick(["", "plain", "x"]),
      random.pick([1, 2]),
      random.pick([1, 1 << 20]),
      random.next() < 0.5,
    ];
    if (random.next() < 0.8) args[random.below(4)] = random.pick([hostileObject(), -1, NaN, "1", null]);
  }
  return fn(...args);
}

function hostileObject(): unknown {
  for (;;) {
    const value = hostileValue(random);
    if (typeof value !== "number") return value;
  }
}

/** A valid call with one or two arguments spoilt, or with nonsense in its index tensors. */
function nearlyValidCall(): () => unknown {
  const table = random.pick(tables);
  const names = Object.keys(table.cases).filter((name) => !name.startsWith("several tasks"));
  const call = OpCall.of(table, random.pick(names));
  const placed = call.place(random.pick(devices));
  const args = placed.arguments();
  const spoil = random.below(3);
  for (let i = 0; i < spoil; i++) {
    const at = random.below(args.length);
    args[at] = random.next() < 0.5 ? hostileValue(random) : typed(call.parameters[at]!);
  }
  for (const { name, spec } of call.tensors()) {
    if (spec.dtype !== "i32" || random.next() < 0.5) continue;
    const size = spec.shape.reduce((a, b) => a * b, 1);
    const nonsense = Int32Array.from({ length: size }, () => garbageIndex());
    native().upload(placed.handles.get(name)!, nonsense);
  }
  return () => {
    try {
      callOp(table.op, args);
      return;
    } finally {
      placed.release();
    }
  };
}

const outcome = { ran: 0, refused: 0 };
const strange: string[] = [];

function attempt(call: () => unknown): void {
  try {
    const result = call();
    // What was queued may fail later: a rejection is an answer too.
    if (result instanceof Promise) result.catch(() => undefined);
    if (typeof result === "number" && handles.length < 1000) handles.push(result);
    outcome.ran += 1;
  } catch (error) {
    outcome.refused += 1;
    if (!(error instanceof Error)) strange.push(String(error));
  }
}

/** Waits; the first failed op since the last time is reported here. */
function settle(): void {
  for (const device of devices) {
    try {
      device.synchronize();
    } catch (error) {
      if (!(error instanceof Error)) strange.push(String(error));
    }
  }
}

makeTensors();
for (let i = 0; i < Number(count); i++) {
  attempt(malformedCall());
  if (i % 50 === 0) {
    settle();
    churn();
  }
}
settle();

for (const device of devices) {
  const product = matmul(
    tensor([1, 2, 3, 4], [2, 2], device),
    tensor([5, 6, 7, 8], [2, 2], device),
  ).dataSync();
  if (product.join() !== "19,22,43,50") strange.push(`matmul on ${device.name} gives ${product.join()}`);
}
console.log(
  `${outcome.ran + outcome.refused} malformed calls: ${outcome.ran} ran, ${outcome.refused} refused`,
);
if (strange.length > 0) console.log(strange.join("\n"));
process.exitCode = strange.length > 0 ? 1 : 0;
