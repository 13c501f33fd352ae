import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** How to start a peer. */
export interface PeerProgram {
  command: string;
  args: readonly string[];
  /** Added to the environment. */
  env: Readonly<Record<string, string>>;
}

type Message = Record<string, unknown> & { error?: unknown };

/** How much of a peer's standard error an error quotes, and how long that may take to arrive. */
const quoted = { lines: 20, milliseconds: 500 };

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
    private readonly child: ChildProcessWithoutNullStreams,
    private readonly replies: Replies,
  ) {}

  /** @throws {Error} if it ends instead of describing itself, with what it printed last. */
  static async start(program: PeerProgram): Promise<Peer> {
    const { command, args, env } = program;
    const child = spawn(command, args, { env: { ...process.env, ...env } });
    process.once("exit", () => child.kill("SIGKILL"));
    // A peer that has ended gives no reply, and that is reported.
    child.stdin.on("error", () => undefined);
    const replies = new Replies(child);
    const description = await replies.next();
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
      return await this.replies.next();
    } catch (error) {
      this.#hasEnded = true;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, "exit");
    this.child.kill("SIGKILL");
    await exited;
  }
}

/** What a peer prints: replies on standard output, all else on standard error, which is passed on. */
class Replies {
  readonly #lines: AsyncIterator<string, undefined>;
  #printed = "";

  constructor(private readonly child: ChildProcessWithoutNullStreams) {
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      process.stderr.write(text);
      this.#printed = (this.#printed + text)
        .split("\n")
        .slice(-quoted.lines - 1)
        .join("\n");
    });
  }

  async next(): Promise<Message> {
    const { value } = await this.#lines.next();
    if (value !== undefined) return JSON.parse(value) as Message;
    // Programs that it started may hold its standard error open.
    if (!this.child.stderr.readableEnded)
      await Promise.race([once(this.child.stderr, "end"), sleep(quoted.milliseconds, null, { ref: false })]);
    throw new Error(`a peer ended before it replied: ${this.#printed.trim() || "it printed nothing"}`);
  }
}
