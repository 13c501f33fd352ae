import { spawnSync } from "node:child_process";

/** What nvidia-smi says of a GPU: numbers in MiB, MHz, W and °C. */
export type GpuState = Record<string, string | number>;

const fields = [
  ...["name", "driver_version", "compute_cap", "memory.total", "pstate", "temperature.gpu"],
  ...["clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "power.draw", "power.limit"],
];

/** Arguments that make nvidia-smi print what {@link parseGpuState} reads. */
export const gpuStateQuery = [`--query-gpu=${fields.join(",")}`, "--format=csv,noheader,nounits"];

/** The first GPU of the list; a field that the GPU does not have is left out. */
export function parseGpuState(csv: string): GpuState {
  const cells = (csv.trim().split("\n")[0] ?? "").split(",").map((cell) => cell.trim());
  const state: GpuState = {};
  for (const [i, field] of fields.entries()) {
    const cell = cells[i] ?? "";
    if (cell === "" || /^\[.*\]$|^N\/A$/.test(cell)) continue;
    const isText = ["name", "driver_version", "compute_cap", "pstate"].includes(field);
    state[field] = isText ? cell : Number(cell);
  }
  return state;
}

/** Versions of what measures, where it is there. */
export function toolVersions(): Record<string, string> {
  // Importing it takes seconds.
  const torch = "from importlib.metadata import version; print(version('torch'))";
  const found = {
    node: process.version,
    nvcc: /release ([\d.]+)/.exec(output("nvcc", "--version"))?.[1],
    python: /Python ([\d.]+)/.exec(output("python3", "--version"))?.[1],
    torch: output("python3", "-c", torch).trim(),
  };
  return Object.fromEntries(
    Object.entries(found).flatMap(([tool, version]) => (version ? [[tool, version]] : [])),
  );
}

function output(file: string, ...args: string[]): string {
  const { stdout, error } = spawnSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  return error ? "" : stdout;
}
