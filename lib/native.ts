import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import type { ProductDType } from "./dtype.js";
import {
  DeviceError,
  DisposedTensorError,
  DTypeError,
  HyperRouterError,
  NativeLoadError,
  OutOfMemoryError,
  ShapeError,
  UnsupportedOpError,
  ValueError,
} from "./errors.js";
import type { NativeOps } from "./native-ops.gen.js";

/** Names a tensor on the native side. Stale handles are detected, never followed. */
export type Handle = number;

/** Names an open device of this thread. */
export type DeviceId = number;

/** What the addon exports; see binding/addon.cpp. */
export interface Native {
  openDevice(
    kind: string,
    variant: string,
    threads: number,
    memoryLimitBytes: number,
    poison: boolean,
    precision: ProductDType,
  ): DeviceId;
  cpuIsas(): string[];
  cudaDevices(): number;
  deviceInfo(device: DeviceId): {
    name: string;
    description: string;
    computeDType: "f32" | "f64";
    threads: number;
  };
  setThreads(device: DeviceId, count: number): void;
  memoryStats(device: DeviceId): {
    liveBytes: number;
    peakBytes: number;
    pooledBytes: number;
    tensors: number;
  };
  resetPeak(device: DeviceId): void;
  createTensor(device: DeviceId, dtype: string, shape: readonly number[]): Handle;
  viewTensor(tensor: Handle, offset: number, shape: readonly number[]): Handle;
  releaseTensor(tensor: Handle): void;
  upload(tensor: Handle, values: NodeJS.TypedArray): void;
  copyTensor(from: Handle, to: Handle): void;
  download(tensor: Handle): Promise<ArrayBuffer>;
  downloadSync(tensor: Handle): ArrayBuffer;
  settled(device: DeviceId): Promise<unknown>;
  timestamp(device: DeviceId): Promise<ArrayBuffer>;
  synchronize(device: DeviceId): void;
  describeOps(): unknown;
  setErrorFactory(factory: (kind: string, op: string, arg: string, detail: string) => Error): void;
  ops: NativeOps;
}

let loaded: Native | undefined;
let loadedPath = "";

/** The addon, loaded at first use, so that importing the package never throws. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

/** The file that {@link native} was loaded from. */
export function nativePath(): string {
  native();
  return loadedPath;
}

function load(): Native {
  const tried: string[] = [];
  for (const path of candidates()) {
    if (!existsSync(path)) {
      tried.push(`${path}: no such file`);
      continue;
    }
    try {
      const addon = createRequire(import.meta.url)(path) as Native;
      addon.setErrorFactory(errorOf);
      loadedPath = path;
      return addon;
    } catch (error) {
      tried.push(`${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  throw new NativeLoadError(
    tried,
    `no native addon for ${process.platform}-${process.arch} could be loaded (tried ${tried.join("; ")})`,
    "run `npm run build:native` in a clone (linux-x64 and linux-arm64 are supported), or point HYPERROUTER_BINDING at a hyperrouter.node file",
  );
}

/** Where an addon may be: an explicit path, then the local build of this package. */
function candidates(): string[] {
  const explicit = process.env["HYPERROUTER_BINDING"];
  if (explicit !== undefined) return [explicit];
  const here = dirname(fileURLToPath(import.meta.url));
  // lib/ in the source tree, dist/lib/ or dist/ once compiled.
  return [here, join(here, "..")].map((folder) => join(folder, "..", "build", "Release", "hyperrouter.node"));
}

/** The error class for a native failure. Called inside the failing call, so the stack is the caller's. */
function errorOf(kind: string, op: string, arg: string, detail: string): Error {
  switch (kind) {
    case "shape":
      return new ShapeError(op, arg, detail);
    case "dtype":
      return new DTypeError(op, arg, detail);
    case "device":
      return new DeviceError(
        `${op}: ${detail}`,
        op === "openDevice"
          ? "open another device; deviceNames() lists those of this machine"
          : "use tensors of one available device in a call",
      );
    case "value":
      return new ValueError(op, arg, detail);
    case "unsupported":
      return new UnsupportedOpError(op, arg, detail);
    case "out_of_memory":
      return new OutOfMemoryError(`${op}: ${detail}`);
    case "disposed":
      return new DisposedTensorError(`${op}: ${detail}`);
    default:
      return new HyperRouterError(
        "INTERNAL",
        `${op}: ${detail}`,
        "this is a defect of hyperrouter; please report it",
      );
  }
}
