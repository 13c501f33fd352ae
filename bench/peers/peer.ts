import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** How to start a peer. */
export interface PeerProgram {
  command: string;
  args: readonly string[];
  /** Added to the environment. */
  env: Readonly<Record<string, string>>;
}

type Message = Record<string, unknown> & { error?: unknown };

/**
 * A long-lived child process that answers a line of JSON with a line of JSON. It is stopped between calls: none of
 * its threads spins while something else is measured.
 */
export class Peer {
  private constructor(
    readonly program: PeerProgram,
    /** What it says about itself. */
    readonly description: Message,
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
    private readonly replies: AsyncIterator<string, undefined>,
  ) {}

  /** @throws {Error} if it ends instead of describing itself; what it printed is on standard error. */
  static async start(program: PeerProgram): Promise<Peer> {
    const { command, args, env } = program;
    const child = spawn(command, args, {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    process.once("exit", () => child.kill("SIGKILL"));
    const replies = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const description = await nextMessage(replies);
    child.kill("SIGSTOP");
    return new Peer(program, description, child, replies);
  }

  /** @throws {Error} with the reason, if the call fails there. */
  async call(name: string, args: Message): Promise<Message> {
    this.child.kill("SIGCONT");
    this.child.stdin.write(`${JSON.stringify({ call: name, ...args })}\n`);
    const reply = await nextMessage(this.replies);
    this.child.kill("SIGSTOP");
    const { error } = reply;
    if (error === undefined) return reply;
    throw new Error(`${name} failed in ${this.program.args.join(" ")}: ${JSON.stringify(error)}`);
  }

  async end(): Promise<void> {
    const exited = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exited;
  }
}

async function nextMessage(replies: AsyncIterator<string, undefined>): Promise<Message> {
  const { value } = await replies.next();
  if (value === undefined) throw new Error("a peer ended before it replied; its message is above");
  return JSON.parse(value) as Message;
}
