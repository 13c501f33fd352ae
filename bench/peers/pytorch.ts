import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import type { PeerKind } from "./peer-kind.js";
import { Peer, type PeerProgram } from "./peer.js";
import { pythonWith } from "./python.js";

const script = fileURLToPath(new URL("pytorch/peer.py", import.meta.url));

/** glibc's allocator, told to keep what is freed: otherwise large tensors are paged in again at every step. */
const allocator = [...["mmap_max=0", `trim_threshold=${String(2 ** 32)}`, `top_pad=${String(2 ** 28)}`]].map(
  (setting) => `glibc.malloc.${setting}`,
);

/** PyTorch with a fast BLAS. How best to share work between threads depends on the BLAS, so each way is started. */
export const pyTorch: PeerKind = {
  name: "PyTorch",
  install: "apt install python3-torch python3-numpy libopenblas0-pthread libopenblas0-openmp",

  async start(threads) {
    const python = pythonWith("numpy", "torch");
    if (python === undefined) return [];
    const args = [script];
    const programs = settings(threads).map((env): PeerProgram => ({ command: python, args, env }));
    const peers = await Promise.all(programs.map((program) => Peer.start(program)));
    const isFast = (peer: Peer): boolean => !libraries(peer).some((file) => file.includes("/blas/libblas"));
    await Promise.all(peers.filter((peer) => !isFast(peer)).map((peer) => peer.end()));
    return peers.filter(isFast);
  },

  describe(peer) {
    // Its folder says how it shares work: openblas-pthread/libopenblasp-r0.3.21.so
    const blas = libraries(peer).find((file) => file.includes("libopenblas"));
    const shortened = blas?.split("/").slice(-2).join("/");
    const { LD_LIBRARY_PATH: _, GLIBC_TUNABLES: __, ...env } = peer.program.env;
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    return [String(peer.description["version"]), shortened ?? "its own BLAS", ...variables].join(", ");
  },
};

function libraries(peer: Peer): string[] {
  return peer.description["libraries"] as string[];
}

/** Environments that may be the fastest. The reference BLAS is never. */
function settings(threads: number): Record<string, string>[] {
  const all = String(threads);
  const common = { OMP_NUM_THREADS: all, OPENBLAS_NUM_THREADS: all, GLIBC_TUNABLES: allocator.join(":") };
  const folders = openBlasFolders();
  if (threads === 1) return [{ ...common, ...libraryPath(folders[0]) }];
  const ways = { active: { OMP_WAIT_POLICY: "ACTIVE" }, passive: { OMP_WAIT_POLICY: "PASSIVE" } };
  return (folders.length > 0 ? folders : [undefined]).flatMap((folder) => {
    const path = libraryPath(folder);
    // Two pools of threads that both wait actively are in each other's way.
    const onePool =
      folder?.endsWith("openmp") === true ? ways.active : { ...ways.passive, OMP_NUM_THREADS: "1" };
    return [
      { ...common, ...path, ...ways.passive },
      { ...common, ...path, ...onePool },
    ];
  });
}

function libraryPath(folder: string | undefined): Record<string, string> {
  return folder === undefined ? {} : { LD_LIBRARY_PATH: folder };
}

/** The flavours of OpenBLAS that Debian installs side by side: pthread, openmp, serial. */
function openBlasFolders(): string[] {
  const root = "/usr/lib";
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .filter((name) => name.endsWith("-linux-gnu"))
    .flatMap((triplet) => readdirSync(join(root, triplet)).map((name) => join(root, triplet, name)))
    .filter(
      (folder) => /\/openblas-(pthread|openmp)$/.test(folder) && existsSync(join(folder, "libblas.so.3")),
    );
}
