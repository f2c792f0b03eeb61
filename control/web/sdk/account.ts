/**
 * A user's login: gets tokens for {@link Uproar}, and new ones before they end.
 *
 * Owns the refresh token, which is used once each (a lost answer is asked for again with the same
 * one). Keeps it where it is told to; by default nowhere, so a reload asks for the password again.
 */

import { keptDevice } from "./device.js";

interface Tokens {
  user: string;
  session: string;
  access_token: string;
  access_expires_unix_ms: number;
  refresh_token: string;
}

/** Where a login outlives the page, as `sessionStorage` does. */
export interface Keeper {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** The server warns so long before a token ends, where it lives longer (PROTOCOL.md, S-38). */
const WARNING_MS = 60_000;
/** The least that a token is good for when it is replaced: a warning gets another one. */
const SPARE_MS = 90_000;
const KEY = "uproar.refresh_token";

/** What the server refused over HTTP. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    /** A number of PROTOCOL.md's table of codes; 0: the answer had none. */
    readonly code: number,
    text: string,
  ) {
    super(text);
  }
}

export class Account {
  private tokens?: Tokens;
  /** The access token is replaced when it is good for less than this. */
  private spare_ms = 0;
  private refreshing?: Promise<Tokens>;

  /** `base`: where the HTTP interface is; by default where the page came from. */
  constructor(
    private readonly base = "",
    private readonly keeper?: Keeper,
  ) {}

  /** The user's name, once logged in. */
  get user(): string | undefined {
    return this.tokens?.user;
  }

  /** Makes an account, where the server lets everybody. */
  async register(user: string, password: string): Promise<void> {
    await this.post("/v1/accounts", { user, password });
  }

  async logIn(user: string, password: string, device = keptDevice()): Promise<void> {
    this.keep((await this.post("/v1/sessions", { user, password, device })) as Tokens);
  }

  /** Ends this log-in, here and on the server. */
  async logOut(): Promise<void> {
    const session = this.tokens?.session;
    if (session) await this.ask("DELETE", `/v1/sessions/${session}`);
    this.forget();
  }

  /**
   * A token that is good for a while, as {@link Options.token} wants it; empty where nobody has
   * logged in.
   */
  async token(): Promise<string> {
    // Another page that shares the keeper may have used the one of this page.
    const refresh = this.keeper?.getItem(KEY) ?? this.tokens?.refresh_token;
    if (!refresh) return "";
    const left_ms = (this.tokens?.access_expires_unix_ms ?? 0) - Date.now();
    if (this.tokens && left_ms > this.spare_ms) return this.tokens.access_token;
    return (await this.turned(refresh)).access_token;
  }

  /**
   * Gets a new token now, which says what is true now (whom the user follows). A connection has it
   * by {@link Uproar.renew}.
   */
  async refresh(): Promise<void> {
    const refresh = this.keeper?.getItem(KEY) ?? this.tokens?.refresh_token;
    if (refresh) await this.turned(refresh);
  }

  /** Whoever asks meanwhile gets the same one: a refresh token is good for one use. */
  private turned(refresh: string): Promise<Tokens> {
    this.refreshing ??= this.turn(refresh).finally(() => (this.refreshing = undefined));
    return this.refreshing;
  }

  private async turn(refresh_token: string): Promise<Tokens> {
    try {
      const tokens = (await this.post("/v1/sessions/refresh", { refresh_token })) as Tokens;
      this.keep(tokens);
      return tokens;
    } catch (error) {
      // The login has ended. (A server that is away keeps it: the same token is tried again.)
      if (error instanceof ApiError && error.status === 401) this.forget();
      throw error;
    }
  }

  /** A request in the user's name. */
  async ask(method: string, path: string, body?: object): Promise<unknown> {
    return this.request(method, path, body, await this.token());
  }

  private keep(tokens: Tokens): void {
    this.tokens = tokens;
    const life_ms = tokens.access_expires_unix_ms - Date.now();
    this.spare_ms =
      life_ms > WARNING_MS ? Math.min(SPARE_MS, (life_ms + WARNING_MS) / 2) : life_ms / 2;
    this.keeper?.setItem(KEY, tokens.refresh_token);
  }

  private forget(): void {
    this.tokens = undefined;
    this.keeper?.removeItem(KEY);
  }

  private post(path: string, body: object): Promise<unknown> {
    return this.request("POST", path, body);
  }

  private async request(
    method: string,
    path: string,
    body?: object,
    token?: string,
  ): Promise<unknown> {
    const headers: Record<string, string> = {};
    if (body) headers["content-type"] = "application/json";
    if (token) headers.authorization = `Bearer ${token}`;
    const sent = body && JSON.stringify(body);
    const answer = await fetch(this.base + path, { method, headers, body: sent });
    const text = await answer.text();
    let read: { error?: { code: number; text: string } } = {};
    try {
      read = text === "" ? {} : JSON.parse(text);
    } catch {
      // What stands between us and the server may answer in its own words.
    }
    if (answer.ok) return read;
    throw new ApiError(answer.status, read.error?.code ?? 0, read.error?.text ?? answer.statusText);
  }
}
