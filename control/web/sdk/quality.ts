/**
 * Tells the server how a stream plays: totals since the session began, what was measured since the
 * report before, numbered. The schema is proto/uproar/v1/quality.proto.
 *
 * Owns the numbers, when they are told, and over which of two doors: the connection that is open
 * anyway, or HTTP. What a video element shows of itself becomes numbers
 * in {@link Playing}.
 */

import type { Uproar } from "./client.js";
import type { Reported } from "./frames.js";
import { Playing } from "./playing.js";

/** Counted since the session began; none ever goes back. */
export type QualityTotal =
  | "stalls"
  | "stall_ms"
  | "played_ms"
  | "frames"
  | "frames_dropped"
  | "attempts"
  | "exits_before_start"
  | "start_failures"
  | "playback_failures"
  | "bytes"
  | "reconnects";

/** Measured since the report before: milliseconds, kbit/s, frames a second, lines. */
export type QualityMetric = "ltc" | "bl" | "br" | "mtp" | "rtt" | "fps" | "height" | "stall";

/** How long a start took, step by step, in milliseconds. */
export interface QualityStart {
  dns?: number;
  connect?: number;
  ttfb?: number;
  decode?: number;
  msd?: number;
}

/** Where and how it plays: 64 bytes each at most; absent: not known. */
export interface QualityOptions {
  room?: string;
  cdn?: string;
  region?: string;
  isp?: string;
  /** By default `web`. */
  platform?: string;
  /** Where the HTTP interface is; by default where the page came from. */
  base?: string;
  /** Whose connection it is told over, where that one is online; over HTTP else. */
  live?: () => Uproar | undefined;
  /** Who reports over HTTP; absent or empty: a guest. */
  token?: () => string | Promise<string>;
}

/** A report each so often. */
const EVERY_MS = 10_000;
/** Values of one report; the server takes no more. */
const VALUES_MAX = 256;
/** The largest value there is. */
const VALUE_MAX = 10_000_000;
/** Reports without an answer that are told again, with the next one. More: the oldest go. */
const UNANSWERED_MAX = 6;
/** No reports over connections here; and the first code of those that pass. */
const NO_REPORTS = 2038;
const FINAL_FROM = 2_000;
/** Requests that refuse for good: the same report again would be refused again. */
const isFinal = (status: number) => status >= 400 && status < 500 && status !== 429;

export class Quality {
  /** Names the session. */
  readonly sid = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  private readonly since_ms = Date.now();
  private readonly totals: Partial<Record<QualityTotal, number>> = {};
  private samples: Partial<Record<QualityMetric, number[]>> = {};
  private values = 0;
  private starts: QualityStart[] = [];
  private batch = 0;
  /** The server takes none over connections. */
  private overHttp = false;
  /** It has answered one. */
  private answered = false;
  private unanswered: object[] = [];
  /** As of the last report: a page that goes waits for no new one. */
  private token = "";
  private playing?: Playing;
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly hidden = () => {
    if (document.visibilityState === "hidden") this.leave();
  };

  constructor(private readonly options: QualityOptions = {}) {
    this.timer = setInterval(() => void this.report(), EVERY_MS);
    globalThis.document?.addEventListener("visibilitychange", this.hidden);
  }

  add(total: QualityTotal, by = 1): void {
    this.totals[total] = (this.totals[total] ?? 0) + Math.max(0, Math.round(by));
  }

  sample(metric: QualityMetric, value: number): void {
    if (this.values >= VALUES_MAX || !Number.isFinite(value)) return;
    this.values += 1;
    const list = (this.samples[metric] ??= []);
    list.push(Math.min(Math.max(0, Math.round(value)), VALUE_MAX));
  }

  started(start: QualityStart): void {
    if (this.starts.length < VALUES_MAX) this.starts.push(start);
  }

  /**
   * Measures a video element from now on: starts, stalls, what is in its buffer, dropped frames,
   * its bitrate where the browser tells it. Its user wants it to play when this is called.
   * `errors`: whether an error of the element is the end; else {@link Playing.failed} says so.
   */
  watch(video: HTMLVideoElement, options: { errors: boolean } = { errors: true }): Playing {
    this.playing?.stop();
    this.playing = new Playing(video, this, options.errors);
    return this.playing;
  }

  /**
   * Tells what there is now. It comes by itself every ten seconds, after a start that failed, in a
   * stall of more than two seconds, and when the page is hidden.
   */
  async report(): Promise<void> {
    const token = Promise.resolve(this.options.token?.() ?? "");
    this.token = await token.catch(() => this.token);
    await this.send(false);
  }

  /** Ends the session: what there is, is told; nothing after it. */
  close(): void {
    clearInterval(this.timer);
    globalThis.document?.removeEventListener("visibilitychange", this.hidden);
    this.playing?.exit();
    this.playing?.stop();
    void this.send(true);
  }

  /** The page is hidden and may not come back. */
  private leave(): void {
    void this.send(true);
  }

  /** `last`: the page may be gone before the answer. */
  private async send(last: boolean): Promise<void> {
    this.playing?.measure();
    const isNothing = Object.values(this.totals).every((total) => total === 0);
    if (isNothing && this.values === 0 && this.starts.length === 0) return;
    const reports = [...this.unanswered, this.next()].slice(-UNANSWERED_MAX);
    this.unanswered = reports;
    const taken = () => {
      this.unanswered = this.unanswered.filter((one) => !reports.includes(one));
    };
    // A page that goes may take its connection along before anything is sent.
    const reported = last || this.overHttp ? undefined : await this.overConnection(reports);
    if (reported) {
      if (reported.code === 0 || reported.code >= FINAL_FROM) taken();
      return;
    }
    const body = JSON.stringify({ reports });
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (this.token !== "") headers.authorization = `Bearer ${this.token}`;
    const path = `${this.options.base ?? ""}/v1/quality/reports`;
    try {
      const answer = await fetch(path, { method: "POST", headers, body, keepalive: last });
      // A report that came twice changes nothing, one that did not come would be missed.
      if (!answer.ok && !isFinal(answer.status)) return;
      taken();
    } catch {
      // The network is away; the next report brings this one along.
    }
  }

  /** What became of them; `undefined`: they go over HTTP. */
  private async overConnection(reports: object[]): Promise<Reported | undefined> {
    const live = this.options.live?.();
    if (live?.state.is !== "online") return undefined;
    const reported = await live.report(reports);
    // A server that never gave an answer while its connection stood knows no reports. One that did
    // has lost this one, perhaps on its way to another process.
    const unknown = !this.answered && live.state.is === "online";
    this.overHttp ||= reported ? reported.code === NO_REPORTS : unknown;
    this.answered ||= reported !== undefined;
    return reported?.code === NO_REPORTS ? undefined : reported;
  }

  private next(): object {
    const { room, cdn, region, isp, platform = "web" } = this.options;
    this.batch += 1;
    const report = {
      sid: this.sid,
      batch: this.batch,
      age_ms: Date.now() - this.since_ms,
      side: "play",
      ...{ room, cdn, region, isp, platform },
      totals: { ...this.totals },
      samples: this.samples,
      starts: this.starts,
    };
    [this.samples, this.values, this.starts] = [{}, 0, []];
    return report;
  }
}
