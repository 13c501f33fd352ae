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
  #hasEnded = false;

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
    // A peer that has ended gives no reply, and that is reported.
    child.stdin.on("error", () => undefined);
    const replies = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const description = await nextMessage(replies);
    child.kill("SIGSTOP");
    return new Peer(program, description, child, replies);
  }

  /** False once it has ended instead of replying. */
  get isRunning(): boolean {
    return !this.#hasEnded;
  }

  /**
   * @param seconds The process is ended when it takes longer to reply. Default: it may take any time.
   * @throws {Error} with the reason, if the call fails there.
   */
  async call(name: string, args: Message, seconds?: number): Promise<Message> {
    this.child.kill("SIGCONT");
    this.child.stdin.write(`${JSON.stringify({ call: name, ...args })}\n`);
    const reply = await this.#reply(seconds);
    this.child.kill("SIGSTOP");
    const { error } = reply;
    if (error === undefined) return reply;
    throw new Error(`${name} failed in ${this.program.args.join(" ")}: ${JSON.stringify(error)}`);
  }

  async #reply(seconds?: number): Promise<Message> {
    const timer =
      seconds === undefined ? undefined : setTimeout(() => this.child.kill("SIGKILL"), 1000 * seconds);
    try {
      return await nextMessage(this.replies);
    } catch (error) {
      this.#hasEnded = true;
      throw error;
    } finally {
      clearTimeout(timer);
    }
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
