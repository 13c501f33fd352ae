/**
 * Every error the library throws on purpose.
 *
 * One class per decision a caller can take. Each carries a stable `code`, the
 * structured fields it was built from, and a message of two lines: the cause,
 * then the fix. `HyperRouterError` is the common base, so one `instanceof`
 * separates our errors from everybody else's.
 */

/** Base of all errors of this library: a stable code, one line of cause and one line of fix. */
export class HyperRouterError extends Error {
  /** Stable, upper-case identifier such as `SHAPE`; safe to branch on. */
  readonly code: string;
  /** What went wrong, in one line. */
  readonly reason: string;
  /** What to do about it, in one line. */
  readonly fix: string;

  constructor(code: string, reason: string, fix: string) {
    super(`${reason}\n  fix: ${fix}`);
    this.name = new.target.name;
    this.code = code;
    this.reason = reason;
    this.fix = fix;
  }
}

/** A tensor argument has the wrong shape. */
export class ShapeError extends HyperRouterError {
  constructor(
    readonly op: string,
    readonly arg: string,
    reason: string,
    fix = `pass "${arg}" with the shape that ${op} documents`,
  ) {
    super("SHAPE", `${op}: ${reason}`, fix);
  }
}

/** A tensor argument has a dtype the op or the device does not take. */
export class DTypeError extends HyperRouterError {
  constructor(
    readonly op: string,
    readonly arg: string,
    reason: string,
    fix = "convert it with cast(), or create it with another dtype",
  ) {
    super("DTYPE", `${op}: ${reason}`, fix);
  }
}

/** A device is unknown, unavailable, or two tensors of one call live on different devices. */
export class DeviceError extends HyperRouterError {
  constructor(reason: string, fix: string) {
    super("DEVICE", reason, fix);
  }
}

/** A plain argument (number, string, tensor content) is outside what the op accepts. */
export class ValueError extends HyperRouterError {
  constructor(
    readonly op: string,
    readonly arg: string,
    reason: string,
    fix = `pass a valid "${arg}"`,
  ) {
    super("VALUE", `${op}: ${reason}`, fix);
  }
}

/** The device has no kernel for this op. */
export class UnsupportedOpError extends HyperRouterError {
  constructor(
    readonly op: string,
    readonly device: string,
    reason: string,
  ) {
    super("UNSUPPORTED_OP", reason, `run it on another device, for example { device: "cpu" }`);
  }
}

/** An allocation did not fit. Sizes are bytes. */
export class OutOfMemoryError extends HyperRouterError {
  constructor(reason: string, fix = "use a smaller batch, segment or model, or dispose tensors") {
    super("OUT_OF_MEMORY", reason, fix);
  }
}

/** A tensor was used after its scope ended or after `dispose()`. */
export class DisposedTensorError extends HyperRouterError {
  constructor(reason: string, fix = "return it from scope(), keep() it, or do not dispose it yet") {
    super("DISPOSED_TENSOR", reason, fix);
  }
}

/** An option is misspelled, missing, of the wrong type or out of range. */
export class ConfigError extends HyperRouterError {
  constructor(
    readonly key: string,
    readonly value: unknown,
    reason: string,
    fix: string,
  ) {
    super("CONFIG", reason, fix);
  }
}

/** A data file is missing, truncated, corrupt or changed. `offset` is in bytes. */
export class DataFileError extends HyperRouterError {
  constructor(
    readonly path: string,
    readonly offset: number | undefined,
    reason: string,
    fix: string,
  ) {
    super(
      "DATA_FILE",
      offset === undefined ? `${path}: ${reason}` : `${path}: ${reason} (byte ${offset})`,
      fix,
    );
  }
}

/** A checkpoint or safetensors file cannot be read or does not fit the model. `offset` is in bytes. */
export class CheckpointError extends HyperRouterError {
  constructor(
    readonly path: string,
    readonly offset: number | undefined,
    reason: string,
    fix: string,
  ) {
    super(
      "CHECKPOINT",
      offset === undefined ? `${path}: ${reason}` : `${path}: ${reason} (byte ${offset})`,
      fix,
    );
  }
}

/** The native addon could not be loaded. */
export class NativeLoadError extends HyperRouterError {
  constructor(
    readonly tried: readonly string[],
    reason: string,
    fix: string,
  ) {
    super("NATIVE_LOAD", reason, fix);
  }
}

/** A loss, gradient or activation became NaN or infinite. */
export class NonFiniteError extends HyperRouterError {
  constructor(
    readonly step: number,
    readonly tensor: string,
    reason: string,
    fix = "lower the learning rate, clip gradients, or start from an earlier checkpoint",
  ) {
    super("NON_FINITE", reason, fix);
  }
}
