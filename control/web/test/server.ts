/** A real server of one test, on free ports; and a wire to it that can be cut. */

import { ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, openSync, closeSync, writeFileSync } from "node:fs";
import { connect, createServer, Server as Listener, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { server as program } from "./places.js";

/** The key of tokens that tests mint; and as the server is told of it. */
const SECRET = Buffer.alloc(32, 7);
const API_KEY = "a-key-of-20-letters!";
export const WITH_USERS =
  `[http]\napi_key = "${API_KEY}"\n` +
  `[engine.tokens]\nhs256_secret = "${SECRET.toString("base64")}"\n`;

export class Server {
  clients = "";
  http = "";
  /** The operator's, as it was shown at the first start. */
  password = "";
  private process!: ChildProcess;
  private readonly files = mkdtempSync(join(tmpdir(), "uproar-web-"));

  private constructor() {}

  /** One that ends with the test. */
  static async start(config = ""): Promise<Server> {
    const server = ending(new Server(), (server) => server.end());
    writeFileSync(join(server.files, "uproar.toml"), config);
    await server.launch("127.0.0.1:0", "127.0.0.1:0");
    return server;
  }

  private async launch(clients: string, http: string): Promise<void> {
    const log = openSync(join(this.files, "log"), "a");
    const flags = ["serve", "--config", "uproar.toml", "--shards", "1"];
    const env = { ...process.env };
    for (const name of Object.keys(env)) if (name.startsWith("UPROAR")) delete env[name];
    this.process = spawn(absolute(program), [...flags, "--listen", clients, "--http", http], {
      cwd: this.files,
      env,
      stdio: ["ignore", "pipe", log],
    });
    closeSync(log);
    for await (const line of createInterface({ input: this.process.stdout! })) {
      const [word, address, , password] = line.trim().split(/\s+/);
      if (word === "clients") this.clients = address;
      if (word === "http") this.http = address;
      if (word === "admin") this.password = password;
      if (word === "who") return; // behind all of them
    }
    throw new Error(`it did not start:\n${this.log()}`);
  }

  get url(): string {
    return `ws://${this.clients}`;
  }

  log(): string {
    return readFileSync(join(this.files, "log"), "utf8");
  }

  signal(name: NodeJS.Signals): void {
    this.process.kill(name);
  }

  /** As a crash would, and until it is gone. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.process.once("exit", resolve));
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    this.process.kill("SIGKILL");
    await gone;
  }

  /** Waits until it has ended by itself. */
  async ended(): Promise<void> {
    if (this.process.exitCode !== null) return;
    await new Promise((resolve) => this.process.once("exit", resolve));
  }

  /** Again, where it was. A killed one's port is free a moment later. */
  async startAgain(): Promise<void> {
    const http = new URL(this.http).host;
    for (let tries = 0; ; tries += 1) {
      try {
        return await this.launch(this.clients, http);
      } catch (error) {
        if (tries === 50) throw error;
        await sleep(100);
      }
    }
  }

  /** A figure of /metrics, summed over its labels. */
  async metric(name: string): Promise<number> {
    const headers = { authorization: `Bearer ${API_KEY}` };
    const text = await (await fetch(`${this.http}/metrics`, { headers })).text();
    const own = text.split("\n").filter((line) => line.split(/[ {]/)[0] === name);
    return own.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  private async end(): Promise<void> {
    await this.kill();
    // Somebody may have cleaned up before: that is nothing a test is about.
    rmSync(this.files, { recursive: true, force: true });
  }

  /** A request to its HTTP interface. */
  async ask(method: string, path: string, body?: object): Promise<any> {
    const headers = { "content-type": "application/json", authorization: `Bearer ${API_KEY}` };
    const sent = body && JSON.stringify(body);
    const answer = await fetch(this.http + path, { method, headers, body: sent });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  }
}

const ends: (() => unknown)[] = [];

/** Something that is ended with the test under way, the last one first. */
export function ending<Kind>(what: Kind, end: (what: Kind) => unknown): Kind {
  ends.push(() => end(what));
  return what;
}

/**
 * A test that ends what it began, and itself. It fails for the first thing that went wrong: one
 * that takes too long ends here too, so that it takes nothing away from the next one.
 */
export function check(name: string, story: () => Promise<void>, ms_max = 120_000): void {
  test(name, async () => {
    const failures: unknown[] = [];
    const tried = async (what: () => unknown) => {
      try {
        await what();
      } catch (error) {
        failures.push(error);
      }
    };
    let late: NodeJS.Timeout | undefined;
    const tooLong = new Promise<never>((_, reject) => {
      late = setTimeout(() => reject(new Error(`it took longer than ${ms_max} ms`)), ms_max);
    });
    await tried(() => Promise.race([story(), tooLong]));
    clearTimeout(late);
    for (const end of ends.splice(0).reverse()) await tried(end);
    if (failures.length > 0) throw failures[0];
  });
}

const absolute = (path: string) => new URL(path, `file://${process.cwd()}/`).pathname;

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is so; long, for a machine that is busy with something else. */
export async function until(
  what: string,
  is: () => boolean | Promise<boolean>,
  ms = 30_000,
): Promise<void> {
  for (const end = Date.now() + ms; !(await is()); await sleep(10)) {
    if (Date.now() > end) throw new Error(`it never came to be that ${what}`);
  }
}

/** A token for a user, signed as a platform would. */
export async function mint(
  server: Server,
  user: string,
  ttl_s = 600,
  more: object = {},
): Promise<string> {
  const { token } = await server.ask("POST", "/v1/tokens", { user, ttl_s, ...more });
  return token;
}

/** Carries bytes to a server until it is told not to. */
export class Wire {
  private readonly pairs = new Set<[Socket, Socket]>();
  private whole = true;
  private listener!: Listener;
  url = "";

  /** One that ends with the test. */
  static async to(server: Server): Promise<Wire> {
    const wire = ending(new Wire(), (wire) => wire.end());
    const [host, port] = server.clients.split(":");
    wire.listener = createServer((near) => {
      if (!wire.whole) {
        near.resetAndDestroy();
        return;
      }
      const far = connect(Number(port), host);
      const pair: [Socket, Socket] = [near, far];
      wire.pairs.add(pair);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ]) {
        from.pipe(to);
        from.on("error", () => to.destroy());
        from.on("close", () => {
          to.destroy();
          wire.pairs.delete(pair);
        });
      }
    });
    await new Promise<void>((resolve) => wire.listener.listen(0, "127.0.0.1", resolve));
    const { port: own } = wire.listener.address() as { port: number };
    wire.url = `ws://127.0.0.1:${own}`;
    return wire;
  }

  get connections(): number {
    return this.pairs.size;
  }

  /** All that is under way breaks, and nothing new comes through. */
  cut(): void {
    this.whole = false;
    for (const [near, far] of this.pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  /** Nothing comes through any more, and nobody is told. */
  freeze(): void {
    this.whole = false;
    for (const [near, far] of this.pairs) {
      near.unpipe();
      far.unpipe();
      near.pause();
      far.pause();
    }
  }

  mend(): void {
    this.whole = true;
  }

  private end(): void {
    this.cut();
    this.listener.close();
  }
}
