import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { ProductDType } from "../../lib/dtype.js";
import { Peer, type PeerProgram } from "./peer.js";

/** See docs/benchmarks.md. `ceilings` are no design: the product and the copy that nothing here can beat. */
export type Design = "published" | "eager" | "compiled" | "flex" | "triton" | "ceilings";

export interface GpuPeerOptions {
  /** A command that runs a Python with PyTorch. */
  python: string;
  /** Where PyTorch works: `cuda` or `cpu`. */
  device: string;
  /** Where compilers keep what they have compiled. */
  cacheFolder: string;
}

const script = fileURLToPath(new URL("pytorch/gpu_peer.py", import.meta.url));

export function gpuPeerProgram(design: Design, dtype: ProductDType, options: GpuPeerOptions): PeerProgram {
  return {
    command: options.python,
    args: [script, "--design", design, "--dtype", dtype, "--device", options.device],
    env: {
      TORCHINDUCTOR_CACHE_DIR: join(options.cacheFolder, "inductor"),
      TRITON_CACHE_DIR: join(options.cacheFolder, "triton"),
    },
  };
}

/** A peer that is started when it is first needed, and again after it has ended. */
export class GpuPeer {
  #starting: Promise<Peer> | undefined;
  /** What it said about itself when it was last started. */
  description: Readonly<Record<string, unknown>> | undefined;

  constructor(private readonly program: PeerProgram) {}

  /** @throws {Error} if it cannot be started; that is not tried again. */
  async start(): Promise<Peer> {
    const peer = await (this.#starting ??= Peer.start(this.program));
    if (!peer.isRunning) this.#starting = Peer.start(this.program);
    const running = await this.#starting;
    this.description = running.description;
    return running;
  }

  /** @throws {Error} with the reason, if the call fails there or takes longer than `seconds`. */
  async call(name: string, args: Record<string, unknown>, seconds: number): Promise<Record<string, unknown>> {
    const peer = await this.start();
    const begin = performance.now();
    try {
      return await peer.call(name, args, seconds);
    } catch (error) {
      if (performance.now() - begin < 1000 * seconds) throw error;
      throw new Error(`${name} took longer than ${seconds.toFixed(0)} s`, { cause: error });
    }
  }

  async end(): Promise<void> {
    const peer = await this.#starting?.catch(() => undefined);
    if (peer?.isRunning) await peer.end();
  }
}
