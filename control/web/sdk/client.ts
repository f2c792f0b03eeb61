/**
 * The client: one connection that mends itself, its rooms and its conversations.
 *
 * Owns the socket and the timers; what frames mean is told by {@link RoomState} and {@link Inbox}.
 */

import { Backoff } from "./backoff.js";
import { BadFrame, fromJson, fromProto, protoOf, toJson, toProto } from "./codec.js";
import { Conversations } from "./conversations.js";
import { keptDevice } from "./device.js";
import { Emitter } from "./emitter.js";
import { Reported, RoomMessage, ServerError, Welcome } from "./frames.js";
import { Room } from "./room.js";

/** No welcome within this long: another try. */
const WELCOME_MS = 10_000;
/** A connection that held this long has gone well: the next wait begins small again. */
const STEADY_MS = 10_000;
/** After the network came back: no answer within this long means the connection is gone. */
const PROBE_MS = 3_000;
/** No answer to a report within this long: there will be none. */
const REPORT_MS = 5_000;
/** Names the SDK to the server. */
const AGENT = "uproar-js/0.1";

/** Codes that another token may mend. */
export const TOKEN_CODES = [2003, 2004, 2005, 3012];
const ALREADY_JOINED = 2017;
/** What a WebSocket says where the connection broke. */
const NO_CLOSE_FRAME = 1006;

type Given<T> = T | (() => T | Promise<T>);

export interface Options {
  /**
   * Where to connect: `ws://host:port` or `wss://...`, one or several, or a function that tells. Of
   * several the next one is tried after each failure.
   */
  url: Given<string | string[]>;
  /** Who connects: a token, or a function that gets one whenever one is needed. Absent: a guest. */
  token?: Given<string>;
  /** What goes over the wire: protobuf (smaller, the default), or JSON (for developer tools). */
  variant?: "proto" | "json";
  /** Asks for the user's conversations; needs a token. */
  inbox?: boolean;
  /**
   * Of a conversation that this client has nothing of yet, so many of the newest messages come by
   * themselves, those before by {@link Conversations.older}. Absent: all there are.
   */
  recent?: number;
  /**
   * A name of this device, 64 bytes at most: who is kept out may be so by it. Absent: a random one
   * that the browser keeps (`localStorage`, `uproar.device`); none in Node. Empty: none, and
   * nothing is kept.
   */
  device?: string;
  /** A WebSocket class, where there is none (Node before version 22: `ws`). */
  WebSocket?: typeof WebSocket;
}

/** What the connection does now. */
export type State =
  | { is: "connecting" }
  | { is: "online"; welcome: Welcome }
  /** The connection is gone; `why` as far as the server told, `retryAt_ms` as `Date.now()` does. */
  | { is: "waiting"; retryAt_ms: number; why?: ServerError }
  /** It ended for good: it was asked for, or `why`. */
  | { is: "closed"; why?: ServerError };

export interface UproarEvents {
  state: State;
  /** The server refused something that is about no room. */
  error: ServerError;
  /** The operator tells something to everybody who is in a room. */
  announced: RoomMessage;
}

/** One socket, from its opening to its end. */
interface Link {
  socket: WebSocket;
  welcome?: Welcome;
  since_ms: number;
  heard_ms: number;
  /** The last error about no room: where the connection ends next, why it did. */
  error?: ServerError;
  timers: Set<ReturnType<typeof setTimeout>>;
}

/**
 * A live client. Three lines make a page live:
 *
 * ```js
 * import { Uproar } from "/sdk/uproar.js";
 * const room = new Uproar({ url: "ws://127.0.0.1:7400" }).room("lobby");
 * room.on("message", (message) => console.log(message.user, message.text));
 * ```
 */
export class Uproar extends Emitter<UproarEvents> {
  /** The user's conversations; of use with `inbox: true`. */
  readonly conversations: Conversations;
  /** What the connection does now. */
  state: State = { is: "connecting" };
  private readonly rooms = new Map<string, Room>();
  /** Rooms whose join was refused for now: when each is tried again. */
  private readonly rejoin = new Map<string, ReturnType<typeof setTimeout>>();
  private readonly backoff = new Backoff();
  private link?: Link;
  private waiting?: ReturnType<typeof setTimeout>;
  private dueTimer?: ReturnType<typeof setTimeout>;
  private tries = 0;
  private refusedTokens = 0;
  private reports = 0;
  /** Who waits for what becomes of a report. */
  private readonly reporting = new Map<number, (reported?: Reported) => void>();
  private readonly ids: { prefix: Uint8Array; next: number };
  private readonly wake = () => this.probe();

  constructor(private readonly options: Options) {
    super();
    this.ids = { prefix: crypto.getRandomValues(new Uint8Array(12)), next: 1 };
    this.conversations = new Conversations(
      {
        pump: () => this.pump(),
        tell: (frame) => this.tell(frame),
        now_ms: () => Date.now(),
        newId: () => this.newId(),
      },
      options.recent,
    );
    globalThis.addEventListener?.("online", this.wake);
    // In a turn of its own: whoever listens and joins right behind has done so by then.
    queueMicrotask(() => void this.connect());
  }

  /** The room of that name: joined now, and again after each reconnect, until it is left. */
  room(name: string): Room {
    const known = this.rooms.get(name);
    if (known) return known;
    const room = new Room(name, {
      pump: () => this.pump(),
      leave: (room) => this.leave(room),
      now_ms: () => Date.now(),
      newId: () => this.newId(),
    });
    this.rooms.set(name, room);
    if (this.link?.welcome) this.tell({ join: room.state.join() });
    return room;
  }

  /**
   * Tells the server how streams play, over the connection: reports as quality.proto has them (a
   * {@link Quality} makes them). What became of them; `undefined` where there is no connection, or
   * no answer: then it is told over HTTP.
   */
  report(reports: object[]): Promise<Reported | undefined> {
    const link = this.link;
    const id = (this.reports = (this.reports + 1) % 2 ** 31);
    const report = { id, reports: protoOf("QualityReports", { reports }) };
    if (!link?.welcome || !this.tell({ report })) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.reporting.set(id, resolve);
      this.after(link, REPORT_MS, () => this.reported(id));
    });
  }

  /** Tries again now rather than when the wait is over; looks whether a connection still stands. */
  reconnect(): void {
    this.probe();
  }

  /** Ends the connection for good. */
  close(): void {
    globalThis.removeEventListener?.("online", this.wake);
    if (!this.isClosed()) this.end(undefined);
  }

  // ------------------------------------------------------------ connecting

  private async connect(): Promise<void> {
    if (this.state.is === "closed") return;
    clearTimeout(this.waiting);
    this.waiting = undefined;
    this.enter({ is: "connecting" });
    let url: string;
    let token: string;
    try {
      const urls = [await given(this.options.url)].flat();
      url = urls[this.tries++ % urls.length];
      token = (await given(this.options.token)) ?? "";
    } catch {
      // Whoever gives addresses and tokens may be away too.
      return this.wait(this.backoff.next(Math.random()));
    }
    if (this.isClosed()) return;
    this.open(url, token);
  }

  // What TypeScript took for known may have changed over an await.
  private isClosed(): boolean {
    return (this.state as State).is === "closed";
  }

  private open(url: string, token: string): void {
    const Socket = this.options.WebSocket ?? globalThis.WebSocket;
    if (!Socket)
      throw new Error("there is no WebSocket here; give one in the options (`ws` in Node)");
    const json = this.options.variant === "json";
    const socket = new Socket(url, json ? "uproar.v1.json" : "uproar.v1.proto");
    socket.binaryType = "arraybuffer";
    const now_ms = Date.now();
    const link: Link = { socket, since_ms: now_ms, heard_ms: now_ms, timers: new Set() };
    this.link = link;
    this.after(link, WELCOME_MS, () => link.welcome ?? this.drop(link));
    socket.onopen = () => {
      const join = [...this.rooms.values()].map((room) => room.state.join());
      const { device = keptDevice(), inbox = false } = this.options;
      this.tell({ connect: { token, device, join, agent: AGENT, inbox } });
    };
    socket.onmessage = ({ data }) => {
      if (this.link === link) this.heard(link, data as string | ArrayBuffer);
    };
    socket.onclose = ({ code }) => {
      if (code === NO_CLOSE_FRAME) link.error = undefined; // it was not the server that ended it
      this.lost(link);
    };
    socket.onerror = () => {}; // a close follows, and tells as much
  }

  private after(link: Link, ms: number, then: () => void): void {
    const timer = setTimeout(() => {
      link.timers.delete(timer);
      if (this.link === link) then();
    }, ms);
    link.timers.add(timer);
  }

  /** Ends a connection that is of no use; what its server says to that is not waited for. */
  private drop(link: Link): void {
    link.error = undefined;
    link.socket.close();
    this.lost(link);
  }

  private lost(link: Link, wait_ms?: number): void {
    if (this.link !== link) return;
    this.link = undefined;
    link.timers.forEach(clearTimeout);
    for (const timer of this.rejoin.values()) clearTimeout(timer);
    this.rejoin.clear();
    for (const room of this.rooms.values()) room.state.disconnected();
    this.unanswered();
    if (link.welcome && Date.now() - link.since_ms > STEADY_MS) this.backoff.reset();
    if (link.error && !this.mayHelp(link.error)) return this.end(link.error);
    this.wait(wait_ms ?? this.backoff.next(Math.random()), link.error);
  }

  /** Whether another try may go better, after an error that ended a connection. */
  private mayHelp(error: ServerError): boolean {
    if (TOKEN_CODES.includes(error.code)) {
      // One new token may be better than an old one; a second one that is refused will not be.
      this.refusedTokens += 1;
      return typeof this.options.token === "function" && this.refusedTokens < 3;
    }
    return error.retry;
  }

  private wait(ms: number, why?: ServerError): void {
    this.enter({ is: "waiting", retryAt_ms: Date.now() + ms, why });
    this.waiting = setTimeout(() => void this.connect(), ms);
    this.pump();
  }

  private end(why: ServerError | undefined): void {
    const link = this.link;
    this.link = undefined;
    clearTimeout(this.waiting);
    clearTimeout(this.dueTimer);
    link?.timers.forEach(clearTimeout);
    this.unanswered();
    this.enter({ is: "closed", why });
    link?.socket.close(1000);
  }

  private enter(state: State): void {
    this.state = state;
    this.emit("state", state);
  }

  /** The network is said to be back: what waits need not, and what stands is tried. */
  private probe(): void {
    if (this.state.is === "waiting") void this.connect();
    const link = this.link;
    if (!link?.welcome) return;
    const asked_ms = Date.now();
    this.tell({ ping: {} });
    this.after(link, PROBE_MS, () => {
      if (link.heard_ms < asked_ms) this.drop(link);
    });
  }

  private beat(link: Link, every_s: number): void {
    const wait = every_s * 1000 * (0.8 + 0.4 * Math.random()); // S-4
    this.after(link, wait, () => {
      if (Date.now() - link.heard_ms > 2 * every_s * 1000) return this.drop(link);
      this.tell({ ping: {} });
      this.beat(link, every_s);
    });
  }

  // ------------------------------------------------------------ frames

  private heard(link: Link, data: string | ArrayBuffer): void {
    link.heard_ms = Date.now();
    link.error = undefined; // the connection went on: that error was about one request
    let frame: Record<string, unknown>;
    try {
      frame = typeof data === "string" ? fromJson(data) : fromProto(new Uint8Array(data));
    } catch (error) {
      if (error instanceof BadFrame) return this.drop(link);
      throw error;
    }
    for (const [kind, body] of Object.entries(frame)) this.received(link, kind, body);
    this.pump();
  }

  private received(link: Link, kind: string, body: unknown): void {
    switch (kind) {
      case "welcome":
        link.welcome = body as Welcome;
        this.refusedTokens = 0;
        this.beat(link, link.welcome.ping_every_s);
        this.enter({ is: "online", welcome: link.welcome });
        break;
      case "error":
        this.refused(link, body as ServerError);
        break;
      case "left": {
        const { room: name, code } = body as { room: string; code: number };
        const room = this.rooms.get(name);
        this.rooms.delete(name);
        room?.state.disconnected();
        room?.gone(code);
        return;
      }
      case "reconnect": {
        const { spread_ms, to } = body as { spread_ms: number; to: string };
        this.move(link, spread_ms, to);
        return;
      }
      case "reported":
        this.reported((body as Reported).id, body as Reported);
        return;
      case "announced":
        this.emit("announced", (body as { message: RoomMessage }).message);
        return;
      case "expiring":
        void this.renew();
        return;
    }
    const name = (body as { room?: string }).room;
    if (name && kind !== "error") {
      const room = this.rooms.get(name);
      const told = room?.tell(room.state.received(kind, body));
      if (told?.broken) this.drop(link);
    } else if (this.options.inbox) {
      this.conversations.received(kind, body);
    }
  }

  private reported(id: number, reported?: Reported): void {
    this.reporting.get(id)?.(reported);
    this.reporting.delete(id);
  }

  /** No answer comes any more. */
  private unanswered(): void {
    for (const id of [...this.reporting.keys()]) this.reported(id);
  }

  private refused(link: Link, error: ServerError): void {
    const room = this.rooms.get(error.room);
    if (!room) {
      link.error = error;
      this.emit("error", error);
      return;
    }
    if (error.code === ALREADY_JOINED) return;
    if (!room.joined && error.retry) {
      const wait = Math.max(error.retry_after_ms, 1_000) * (1 + Math.random());
      const isWanted = () => this.link === link && this.rooms.get(room.name) === room;
      const again = () => isWanted() && this.tell({ join: room.state.join() });
      this.rejoin.set(room.name, setTimeout(again, wait));
    }
    room.refused(error);
  }

  /** The server goes away, and says where to (S-23). */
  private move(link: Link, spread_ms: number, to: string): void {
    if (to !== "") {
      const scheme = new URL(link.socket.url).protocol;
      const { url } = this.options;
      // Once: whoever gave the addresses knows best where to go after that.
      this.options.url = async () => {
        this.options.url = url;
        return `${scheme}//${to}`;
      };
    }
    link.error = undefined;
    link.socket.close(1000);
    this.lost(link, spread_ms * Math.random());
  }

  /**
   * Asks for a token and puts it in the place of the connection's (S-38): by itself when that ends
   * soon, and for whoever knows that another one says more. Nothing where the token is no function.
   */
  async renew(): Promise<void> {
    const link = this.link;
    if (!link || typeof this.options.token !== "function") return;
    try {
      const token = await this.options.token();
      if (this.link === link) this.tell({ renew: { token } });
    } catch {
      // The connection will end with its token, and the next one asks again.
    }
  }

  private leave(room: Room): void {
    if (this.rooms.get(room.name) !== room) return;
    if (room.joined) this.tell({ leave: { room: room.name } });
    else this.rooms.delete(room.name);
  }

  private tell(frame: object): boolean {
    const socket = this.link?.socket;
    if (socket?.readyState !== 1) return false;
    socket.send(this.options.variant === "json" ? toJson(frame) : toProto(frame));
    return true;
  }

  /** Sends what is due, and comes back when more is. */
  private pump(): void {
    if (this.state.is === "closed") return;
    const now_ms = Date.now();
    const online = this.link?.welcome !== undefined;
    const moments: number[] = [];
    for (const room of this.rooms.values()) {
      room.state.due(now_ms).forEach((frame) => this.tell(frame));
      room.tell(room.state.stale(now_ms));
      moments.push(room.state.nextDue_ms() ?? Infinity);
    }
    if (this.options.inbox && online) {
      this.conversations.inbox.due(now_ms).forEach((frame) => this.tell(frame));
      moments.push(this.conversations.inbox.nextDue_ms() ?? Infinity);
    }
    clearTimeout(this.dueTimer);
    const next = Math.min(...moments, Infinity);
    if (next < Infinity) this.dueTimer = setTimeout(() => this.pump(), Math.max(next - now_ms, 1));
  }

  /** 12 random bytes and a number: never used again. */
  private newId(): Uint8Array {
    const id = new Uint8Array(16);
    id.set(this.ids.prefix);
    new DataView(id.buffer).setUint32(12, this.ids.next++);
    return id;
  }
}

async function given<T>(what: Given<T>): Promise<T> {
  return typeof what === "function" ? await (what as () => T | Promise<T>)() : what;
}
