import { readdirSync } from "node:fs";
import { arrayOf, type ArrayOf, type DType } from "../../lib/dtype.js";
import { type Device, openDevice } from "../../lib/device.js";
import { type Handle, native } from "../../lib/native.js";
import { sizeOf } from "../../lib/tensor.js";
import { fromBits, rounded, toBits } from "./half.js";
import { type Expected, NdArray } from "./nd-array.js";
import {
  type Argument,
  type Arguments,
  type Family,
  isTensorSpec,
  type OpCases,
  type TensorSpec,
} from "./op-case.js";
import { CaseRandom } from "./random.js";
import { firstMismatch, type Tolerance } from "./tolerance.js";

/** One parameter of an op, as the addon describes it. */
export interface Parameter {
  /** In camel case. */
  name: string;
  /** As it is in messages. */
  wireName: string;
  kind: "tensor" | "integer" | "number" | "boolean" | "enum";
  access?: "in" | "out" | "inout";
  optional?: boolean;
  values?: string[];
}

const camelCase = (name: string): string =>
  name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

let described: Map<string, Parameter[]> | undefined;

/** Every op of the addon with its parameters in wire order, names in camel case. */
export function describedOps(): Map<string, Parameter[]> {
  described ??= new Map(
    (native().describeOps() as { name: string; params: Parameter[] }[]).map(({ name, params }) => [
      camelCase(name),
      params.map((parameter) => ({
        ...parameter,
        name: camelCase(parameter.name),
        wireName: parameter.name,
      })),
    ]),
  );
  return described;
}

const casesFolder = new URL("../ops/", import.meta.url);

/** The case tables of all families: every test/ops/<family>.cases.ts. */
export async function loadFamilies(): Promise<Map<string, Family>> {
  const families = new Map<string, Family>();
  for (const file of readdirSync(casesFolder).sort()) {
    if (!file.endsWith(".cases.ts")) continue;
    const module = (await import(new URL(file, casesFolder).href)) as { default: Family };
    families.set(file.replace(".cases.ts", ""), module.default);
  }
  return families;
}

/** The oracle device: plain loops in float64. */
export function reference(): Device {
  return openDevice("reference", { poison: true });
}

/** Every instruction set of this machine, as device names. */
export function instructionSets(): string[] {
  return native()
    .cpuIsas()
    .filter((isa) => isa !== "reference")
    .map((isa) => `cpu:${isa}`);
}

export function poisoned(name: string, threads: number): Device {
  return openDevice(name, { poison: true, threads });
}

/** A case of one op, with its arguments spelled out. */
export class OpCall {
  readonly #initial = new Map<string, ArrayLike<number> | undefined>();

  constructor(
    readonly table: OpCases,
    readonly caseName: string,
    readonly args: Arguments,
    readonly tolerance: Tolerance,
  ) {}

  static of(table: OpCases, caseName: string): OpCall {
    const sizes = table.cases[caseName];
    if (sizes === undefined) throw new Error(`${table.op} has no case "${caseName}"`);
    return new OpCall(table, caseName, table.args(sizes), table.tolerance(sizes));
  }

  static all(table: OpCases): OpCall[] {
    return Object.keys(table.cases).map((name) => OpCall.of(table, name));
  }

  /** The first case with some arguments changed. */
  static changed(table: OpCases, change: Arguments): OpCall {
    const base = OpCall.of(table, Object.keys(table.cases)[0]!);
    return new OpCall(table, base.caseName, { ...base.args, ...change }, base.tolerance);
  }

  /** The same call, its results judged by another tolerance. */
  within(tolerance: Tolerance): OpCall {
    return new OpCall(this.table, this.caseName, this.args, tolerance);
  }

  get parameters(): Parameter[] {
    const parameters = describedOps().get(this.table.op);
    if (!parameters) throw new Error(`the addon has no op "${this.table.op}"`);
    return parameters;
  }

  /** Names of the tensors that are passed, with their specs and how the op accesses them. */
  tensors(): { name: string; spec: TensorSpec; access: "in" | "out" | "inout" }[] {
    return this.parameters.flatMap(({ name, access }) => {
      const argument = this.args[name];
      return access && argument !== undefined && isTensorSpec(argument)
        ? [{ name, spec: argument, access }]
        : [];
    });
  }

  /** The numbers a tensor starts with, before rounding to its dtype. Undefined: the pattern of an output. */
  initial(name: string, spec: TensorSpec): ArrayLike<number> | undefined {
    if (!this.#initial.has(name)) {
      this.#initial.set(name, spec.values?.(new CaseRandom(`${this.table.op} ${this.caseName} ${name}`)));
    }
    return this.#initial.get(name);
  }

  /** The arguments on the host, for the oracle. */
  values(): Record<string, unknown> {
    const values: Record<string, unknown> = { ...this.args };
    for (const { name, spec } of this.tensors()) {
      const numbers = this.initial(name, spec) ?? new Float64Array(sizeOf(spec.shape)).fill(NaN);
      const dtype = spec.dtype === "float" ? "f64" : spec.dtype;
      const stored = dtype === "f64" ? numbers : Array.from(numbers, (value) => rounded(value, dtype));
      values[name] = new NdArray(spec.shape, stored, dtype);
    }
    return values;
  }

  expected(): Record<string, Expected> {
    return this.table.oracle(this.values() as never);
  }

  /** Runs the op on new tensors and reads all of them back. */
  run(device: Device): Run {
    const placed = this.place(device);
    try {
      placed.call();
      return placed.read();
    } finally {
      placed.release();
    }
  }

  /** Creates the tensors on a device, ready to call. */
  place(device: Device, { guarded = false } = {}): PlacedCall {
    return new PlacedCall(this, device, guarded);
  }
}

/** The result of one call: all tensors of it as they were afterwards. */
export type Run = Map<string, TensorResult>;

export class TensorResult {
  constructor(
    readonly dtype: DType,
    readonly data: ArrayOf[DType],
  ) {}

  /** The elements as numbers; `undefined` where the pattern of an untouched output is still there. */
  numbers(): (number | undefined)[] {
    const { dtype, data } = this;
    // A NaN is told from another by its bits.
    const words = dtype === "f32" || dtype === "f64" ? new Uint32Array(data.buffer) : data;
    const step = words.length / data.length;
    const pattern = new (words.constructor as Uint32ArrayConstructor)(outputPattern(dtype, 1).buffer)[0];
    return Array.from(data, (value, i) => {
      const untouched = words[i * step] === pattern && words[i * step + step - 1] === pattern;
      return untouched ? undefined : dtype === "bf16" || dtype === "f16" ? fromBits(value, dtype) : value;
    });
  }

  equals(other: TensorResult): boolean {
    return sameBytes(this.data, other.data);
  }
}

function sameBytes(a: ArrayOf[DType], b: ArrayOf[DType]): boolean {
  return Buffer.compare(new Uint8Array(a.buffer), new Uint8Array(b.buffer)) === 0;
}

/** What a tensor holds before the call. */
function startingBytes(call: OpCall, name: string, spec: TensorSpec, dtype: DType): ArrayOf[DType] {
  const values = call.initial(name, spec);
  if (!values) return outputPattern(dtype, sizeOf(spec.shape));
  const isFloat = dtype === "f32" || dtype === "f64";
  return arrayOf(dtype, isFloat ? values : Array.from(values, (value) => toBits(value, dtype)));
}

/** Bytes that no op computes: a NaN of unusual payload, an odd integer. */
function outputPattern(dtype: DType, size: number): ArrayOf[DType] {
  const pattern = arrayOf(dtype, size);
  new Uint8Array(pattern.buffer).fill(dtype === "f32" || dtype === "f64" ? 0xff : 0x5a);
  return pattern;
}

/** Elements around a guarded tensor. What lies between starts at 16 bytes, at 4 or at 8 where elements have 4. */
const guardSizes = [16, 16, 17, 18] as const;

class PlacedCall {
  readonly handles = new Map<string, Handle>();
  readonly #bases = new Map<string, { handle: Handle; dtype: DType; guard: number }>();
  readonly #views: Handle[] = [];

  /** @param guarded Puts every tensor between elements that nobody may write; how many, is drawn. */
  constructor(
    readonly of: OpCall,
    readonly device: Device,
    guarded: boolean,
  ) {
    const random = new CaseRandom(`${of.table.op} ${of.caseName} ${device.name} guards`);
    for (const { name, spec } of of.tensors())
      this.#create(name, spec, guarded ? random.pick(guardSizes) : 0);
  }

  #create(name: string, spec: TensorSpec, guard: number): void {
    const dtype = this.dtypeOf(spec);
    const contents = outputPattern(dtype, sizeOf(spec.shape) + 2 * guard);
    contents.set(startingBytes(this.of, name, spec, dtype), guard);
    const handle = native().createTensor(this.device.id, dtype, [contents.length]);
    native().upload(handle, contents);
    this.#bases.set(name, { handle, dtype, guard });
    const view = native().viewTensor(handle, guard, spec.shape);
    this.#views.push(view);
    this.handles.set(name, view);
  }

  dtypeOf(spec: TensorSpec): DType {
    return spec.dtype === "float" ? this.device.float : spec.dtype;
  }

  /** Positional arguments. */
  arguments(): unknown[] {
    return this.of.parameters.map(({ name }) => {
      const argument: Argument | undefined = this.of.args[name];
      if (argument === undefined) throw new Error(`${this.of.table.op}: the case gives no "${name}"`);
      return this.handles.get(name) ?? argument;
    });
  }

  call(): void {
    callOp(this.of.table.op, this.arguments());
  }

  read(): Run {
    const run: Run = new Map();
    for (const { name, spec } of this.of.tensors()) {
      const dtype = this.dtypeOf(spec);
      run.set(name, new TensorResult(dtype, arrayOf(dtype, native().downloadSync(this.handles.get(name)!))));
    }
    return run;
  }

  /** Names of the tensors around which something was written. */
  damagedGuards(): string[] {
    const isDamaged = (base: { handle: Handle; dtype: DType; guard: number }): boolean => {
      const contents = arrayOf(base.dtype, native().downloadSync(base.handle));
      const pattern = outputPattern(base.dtype, base.guard);
      const guards = [contents.slice(0, base.guard), contents.slice(contents.length - base.guard)];
      return guards.some((guard) => !sameBytes(guard, pattern));
    };
    return [...this.#bases].filter(([, base]) => isDamaged(base)).map(([name]) => name);
  }

  release(): void {
    for (const { handle } of this.#bases.values()) native().releaseTensor(handle);
    for (const handle of this.#views) native().releaseTensor(handle);
  }
}

/** Calls an op with any arguments. */
export function callOp(op: string, args: readonly unknown[]): void {
  const ops = native().ops as unknown as Record<string, (...args: readonly unknown[]) => void>;
  ops[op]!(...args);
}

/**
 * What differs between a run and the expected outputs: values beyond the tolerance, elements that should have been
 * written and were not, or the reverse. One line per output.
 */
export function differences(call: OpCall, run: Run, expected: Record<string, Expected>): string[] {
  const found: string[] = [];
  for (const { name, access } of call.tensors()) {
    if (access === "in") continue;
    const result = run.get(name)!;
    const got = result.numbers();
    const want = expected[name];
    if (!want) {
      found.push(`${name} is not among the expected outputs`);
      continue;
    }
    const unwritten = got.findIndex((value, i) => value === undefined && want[i] !== undefined);
    if (unwritten >= 0) found.push(`${name}[${unwritten}] was not written, expected ${want[unwritten]}`);
    const overwritten = got.findIndex((value, i) => value !== undefined && want[i] === undefined);
    if (overwritten >= 0)
      found.push(`${name}[${overwritten}] was written (${got[overwritten]}), expected untouched`);
    if (unwritten >= 0 || overwritten >= 0) continue;
    const isFloat = result.dtype === "f32" || result.dtype === "f64";
    const mismatch = firstMismatch(
      got.map((value) => value ?? 0),
      want,
      isFloat ? result.dtype : "f64",
      isFloat ? call.tolerance : "exact",
    );
    if (mismatch !== undefined) found.push(`${name} ${mismatch}`);
  }
  return found;
}

/** Names of the inputs that a run changed. */
export function changedInputs(call: OpCall, run: Run): string[] {
  return call
    .tensors()
    .filter(({ name, spec, access }) => {
      const { dtype, data } = run.get(name)!;
      return access === "in" && !sameBytes(data, startingBytes(call, name, spec, dtype));
    })
    .map(({ name }) => name);
}

/** Names of the outputs of two runs that are not the same bits. */
export function bitDifferences(call: OpCall, a: Run, b: Run): string[] {
  return call
    .tensors()
    .filter(({ name, access }) => access !== "in" && !a.get(name)!.equals(b.get(name)!))
    .map(({ name }) => name);
}
