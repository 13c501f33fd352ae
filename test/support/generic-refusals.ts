import type { Device } from "../../lib/device.js";
import type { DType } from "../../lib/dtype.js";
import { type Handle, native } from "../../lib/native.js";
import { sizeOf } from "../../lib/tensor.js";
import { callOp, type OpCall, type Parameter } from "./op-harness.js";

/** A malformed call and the error it must give. */
export interface Refusal {
  what: string;
  call: () => void;
  error: string;
  /** Part of the message. */
  says: string;
}

/** Ops that take tensors of any dtype. */
const anyDType = new Set(["fill", "cast"]);

/**
 * The mistakes that every op refuses, whatever it computes: arity, types of arguments, dead handles, tensors of
 * another device or dtype, outputs that share memory. Derived from the op's description and one valid call.
 */
export function genericRefusals(valid: OpCall, device: Device, other: Device): Refusal[] {
  const { op } = valid.table;
  const placed = valid.place(device);
  const args = placed.arguments();
  const refusals: Refusal[] = [];
  const refuse = (what: string, error: string, says: string, changed: readonly unknown[]): void => {
    refusals.push({ what, error, says, call: () => callOp(op, changed) });
  };
  const replaced = (i: number, value: unknown): unknown[] =>
    args.map((argument, j) => (i === j ? value : argument));

  for (const list of [[], args.slice(0, -1), [...args, 0]]) {
    refuse(`${list.length} arguments`, "ValueError", `takes ${args.length} arguments, got`, list);
  }
  valid.parameters.forEach((parameter, i) => {
    const { name, wireName } = parameter;
    for (const value of wrongValues(parameter)) {
      refuse(`${name} = ${describeValue(value)}`, "ValueError", `"${wireName}" `, replaced(i, value));
    }
    const handle = placed.handles.get(name);
    if (handle === undefined) return;
    for (const dead of deadHandles(device)) {
      refuse(
        `${name} = dead handle ${dead}`,
        "DisposedTensorError",
        `"${wireName}" is not a live tensor`,
        replaced(i, dead),
      );
    }
    const { spec } = valid.tensors().find((tensor) => tensor.name === name)!;
    const dtype = placed.dtypeOf(spec);
    const like = (on: Device, type: DType): Handle => native().createTensor(on.id, type, spec.shape);
    if (valid.tensors().length > 1) {
      refuse(`${name} on another device`, "DeviceError", "on device", replaced(i, like(other, dtype)));
    }
    if (anyDType.has(op)) return;
    for (const wrong of wrongDTypes(dtype)) {
      refuse(`${name} is ${wrong}`, "DTypeError", wrong, replaced(i, like(device, wrong)));
    }
  });
  refuseOverlaps(
    valid,
    (out, input, views) => {
      const changed = valid.parameters.map(({ name }, i) => views[name] ?? args[i]);
      refuse(`${out} overlaps ${input}`, "ValueError", "shares memory with", changed);
    },
    device,
  );
  return refusals;
}

/** Values of the wrong type for a parameter. */
function wrongValues({ kind, optional, values }: Parameter): unknown[] {
  switch (kind) {
    case "tensor":
      return [
        ...(optional ? [] : [null, undefined]),
        "0",
        true,
        {},
        [],
        Symbol("tensor"),
        5n,
        NaN,
        0.5,
        2 ** 60,
      ];
    case "boolean":
      return [0, "true", null, undefined, {}];
    case "enum":
      return [0, null, {}, "", `${values![0]!} `, values![0]!.toUpperCase(), "x".repeat(1000)];
    case "integer":
      return ["1", null, undefined, 1n, 0.5, NaN, Infinity, 2 ** 53, {}];
    case "number":
      return ["1", null, undefined, 1n, {}, Symbol("number")];
  }
}

function describeValue(value: unknown): string {
  return typeof value === "object" && value !== null
    ? JSON.stringify(value)
    : `${String(value).slice(0, 20)} (${typeof value})`;
}

function deadHandles(device: Device): Handle[] {
  const released = native().createTensor(device.id, "i32", [1]);
  native().releaseTensor(released);
  return [released, -1, 2 ** 23, 2 ** 52];
}

function wrongDTypes(right: DType): DType[] {
  const all: DType[] = ["f32", "f64", "bf16", "f16", "i32"];
  return all.filter((dtype) => dtype !== right);
}

/** Calls `found` for each output with each other tensor of its dtype, both as views that share an element. */
function refuseOverlaps(
  valid: OpCall,
  found: (out: string, input: string, views: Record<string, Handle>) => void,
  device: Device,
): void {
  const inPlace = valid.table.inPlace ?? [];
  const tensors = valid.tensors();
  for (const out of tensors.filter(({ access }) => access !== "in")) {
    for (const input of tensors) {
      if (input === out || input.spec.dtype !== out.spec.dtype) continue;
      const [outSize, inputSize] = [sizeOf(out.spec.shape), sizeOf(input.spec.shape)];
      const offset = outSize > 1 ? 1 : 0;
      if (offset === 0 && inPlace.some(([o, i]) => o === out.name && i === input.name)) continue;
      const dtype = out.spec.dtype === "float" ? device.float : out.spec.dtype;
      const base = native().createTensor(device.id, dtype, [Math.max(outSize, inputSize + offset)]);
      found(out.name, input.name, {
        [out.name]: native().viewTensor(base, 0, out.spec.shape),
        [input.name]: native().viewTensor(base, offset, input.spec.shape),
      });
    }
  }
}
