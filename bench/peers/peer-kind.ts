import type { Peer } from "./peer.js";

/** Another library that does what we do. */
export interface PeerKind {
  readonly name: string;
  /** The command that installs it. */
  readonly install: string;
  /** Starts it in each way that may be the fastest with so many threads; none where it is not installed. */
  start(threads: number): Promise<Peer[]>;
  /** Version and settings. */
  describe(peer: Peer): string;
}
