import type { Terminal } from "./terminal.js";

/** Exit status of a program that Ctrl-C ended. */
export const INTERRUPTED = 130;

/**
 * Runs `work` so that the first Ctrl-C aborts its signal, and a second one ends the process at once. Work that throws
 * the signal's reason, or returns early, has ended well: only the exit status tells.
 *
 * @param note What happens now, said at the first Ctrl-C.
 */
export async function interruptible(
  terminal: Terminal,
  note: string,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const { signal } = stop;
  const onInterrupt = (): void => {
    if (signal.aborted) process.exit(INTERRUPTED);
    terminal.warn(`\n${note}; Ctrl-C again stops at once`);
    stop.abort();
  };
  process.on("SIGINT", onInterrupt);
  try {
    await work(signal);
  } catch (error) {
    if (!signal.aborted || error !== signal.reason) throw error;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
  if (signal.aborted) process.exitCode = INTERRUPTED;
}
