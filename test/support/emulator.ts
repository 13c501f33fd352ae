import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Device, openDevice } from "../../lib/device.js";
import type { ProductDType } from "../../lib/dtype.js";

const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** The addon with the CUDA backend on the emulated GPU; importing this file selects it. */
export const emulatedBinding = (process.env["HYPERROUTER_BINDING"] ??= at(
  "build/Release/hyperrouter-emulated.node",
));

/** The emulated GPUs: asynchronous copies arrive whenever, as late and as early as allowed. */
export function emulated(dtype: ProductDType = "f32"): [drawn: Device, late: Device, early: Device] {
  const open = (index: number): Device => openDevice(`cuda:${index}`, { poison: true, dtype });
  return [open(0), open(1), open(2)];
}

/** Ops whose family has CUDA kernels, as they are called in C++. */
export function cudaOps(): Set<string> {
  const families = readdirSync(at("cuda/kernels")).filter((file) => file.endsWith(".cu"));
  return new Set(
    families.flatMap((file) => {
      if (!existsSync(at(`ops/${file.replace(".cu", ".h")}`))) return [];
      const header = readFileSync(at(`ops/${file.replace(".cu", ".h")}`), "utf8");
      return [...header.matchAll(/\bOP\((\w+), /g)].map((match) => match[1]!);
    }),
  );
}
