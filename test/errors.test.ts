import { describe, expect, test } from "@jest/globals";
import * as errors from "../lib/errors.js";
import { openDevice } from "../lib/device.js";
import { native } from "../lib/native.js";

const samples = [
  new errors.ShapeError("gemm", "a", "cause"),
  new errors.DTypeError("gemm", "a", "cause"),
  new errors.DeviceError("cause", "fix"),
  new errors.ValueError("gemm", "a", "cause"),
  new errors.UnsupportedOpError("gemm", "cpu", "cause"),
  new errors.OutOfMemoryError("cause"),
  new errors.DisposedTensorError("cause"),
  new errors.ConfigError("key", 1, "cause", "fix"),
  new errors.DataFileError("file", 3, "cause", "fix"),
  new errors.CheckpointError("file", undefined, "cause", "fix"),
  new errors.NativeLoadError(["path"], "cause", "fix"),
  new errors.NonFiniteError(3, "loss", "cause"),
];

describe("every error class", () => {
  test.each(samples.map((error) => [error.constructor.name, error] as const))("%s", (name, error) => {
    expect(error).toBeInstanceOf(errors.HyperRouterError);
    expect(error).toBeInstanceOf(Error);
    expect(error.name).toBe(name);
    expect(error.code).toMatch(/^[A-Z_]+$/);
    expect(error.message).toBe(`${error.reason}\n  fix: ${error.fix}`);
    expect(error.reason).toContain("cause");
    expect(`${error.reason}${error.fix}`).not.toContain("\n");
    expect(error.fix).not.toBe("");
  });

  test("codes are distinct, and no class was forgotten here", () => {
    const codes = samples.map(({ code }) => code);
    expect(new Set(codes).size).toBe(codes.length);
    const classes = Object.values(errors).filter((value) => value !== errors.HyperRouterError);
    expect(classes).toHaveLength(samples.length);
  });
});

describe("errors of the addon", () => {
  test("carry op and argument, and the stack of the caller", () => {
    function callerOfTheAddon(): void {
      native().ops.fill(-1, 0);
    }
    let error: errors.HyperRouterError | undefined;
    try {
      callerOfTheAddon();
    } catch (caught) {
      error = caught as errors.HyperRouterError;
    }
    expect(error).toBeInstanceOf(errors.DisposedTensorError);
    expect(error!.message).toBe(
      'fill: "out" is not a live tensor\n  fix: return it from scope(), keep() it, or do not dispose it yet',
    );
    expect(error!.stack).toContain("callerOfTheAddon");
  });

  test("a factory that throws, recurses or returns nonsense does no harm", () => {
    const addon = native();
    const device = openDevice("cpu", { threads: 1 });
    const failing = (): unknown => addon.createTensor(device.id, "f32", [0]);
    let original: unknown;
    try {
      failing();
    } catch (error) {
      original = error;
    }
    expect(original).toBeInstanceOf(errors.ValueError);
    const factory = (kind: string, op: string, arg: string, detail: string): Error =>
      kind === "value" ? new errors.ValueError(op, arg, detail) : new Error(detail);
    try {
      addon.setErrorFactory(() => {
        throw new Error("from the factory");
      });
      expect(failing).toThrow("from the factory");
      addon.setErrorFactory(() => undefined as never);
      expect(failing).toThrow();
      let depth = 0;
      addon.setErrorFactory(() => {
        depth += 1;
        failing();
        return new Error("unreachable");
      });
      expect(failing).toThrow("Maximum call stack size exceeded");
      expect(depth).toBeGreaterThan(10);
    } finally {
      addon.setErrorFactory(factory);
    }
    expect(failing).toThrow(errors.ValueError);
    expect(() => {
      addon.setErrorFactory(5 as never);
    }).toThrow('"factory" must be a function');
  });
});
