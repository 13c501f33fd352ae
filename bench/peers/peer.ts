import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** How to start a peer. */
export interface PeerProgram {
  command: string;
  args: readonly string[];
  env: Record<string, string>;
}

type Reply = Record<string, unknown>;

/**
 * A long-lived child process that answers a line of JSON with a line of JSON. It is stopped between calls, so that
 * none of its threads spins while something else is measured.
 */
export class Peer {
  /** What it said about itself. */
  readonly description: Reply;

  private constructor(
    private readonly child: ChildProcess,
    private readonly replies: AsyncIterator<string>,
    description: Reply,
  ) {
    this.description = description;
  }

  /** @throws {Error} with what it printed, if it ends instead of describing itself. */
  static async start({ command, args, env }: PeerProgram): Promise<Peer> {
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    await once(child, "spawn");
    const replies = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const description = await nextReply(replies);
    child.kill("SIGSTOP");
    return new Peer(child, replies, description);
  }

  /** @throws {Error} with the reason, if the call fails there. */
  async call(name: string, args: Record<string, unknown>): Promise<Reply> {
    this.child.kill("SIGCONT");
    this.child.stdin?.write(`${JSON.stringify({ call: name, ...args })}\n`);
    const reply = await nextReply(this.replies);
    this.child.kill("SIGSTOP");
    if (reply["error"] !== undefined) throw new Error(`${name} failed in a peer: ${String(reply["error"])}`);
    return reply;
  }

  async end(): Promise<void> {
    const exited = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exited;
  }
}

async function nextReply(replies: AsyncIterator<string>): Promise<Reply> {
  const line = await replies.next();
  if (line.done === true) throw new Error("a peer ended before it replied; its message is above");
  return JSON.parse(line.value) as Reply;
}
