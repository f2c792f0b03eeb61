/**
 * The room page as a replay: what was said in a room, or written to a video, in time with what
 * plays. Owns how the parts are wired; nothing here is live.
 */

import { Account, DanmakuLine, Recorded, Replay } from "../../sdk/index.js";
import { PatternClock, VideoClock } from "./clock.js";
import { Controls, timeOf } from "./controls.js";
import { Danmaku } from "./danmaku.js";
import { Lines } from "./lines.js";
import { Playback } from "./replay.js";
import { Screen } from "./screen.js";
import { giftText } from "./talk.js";
import { words } from "./words.js";

/** Lines whose moments are told, for tests: the last ones. */
const TOLD_MAX = 1_000;
/** The pattern of a replay that nothing is known of is so long. */
const EMPTY_MS = 60_000;

export interface WatchParts {
  account: Account;
  screen: Screen;
  video: HTMLVideoElement;
  lines: Lines;
  danmaku: Danmaku;
  controls: HTMLElement;
  note(text: string): void;
  /** Asks who it is. */
  signIn(): void;
}

export interface Watch {
  controls: Controls;
  /** Writes a line to this moment. `false`: its user must sign in first. */
  write(text: string): Promise<boolean>;
  /** Lines as they were shown, and when. */
  told: { seq: number; offset_ms: number; at_ms: number; frame_ms: number }[];
}

export async function watch(of: Recorded, parts: WatchParts): Promise<Watch> {
  const { screen, danmaku, lines, account, note } = parts;
  const replay = new Replay(of);
  await replay.open();
  const pattern = new PatternClock(() => Math.max(replay.length_ms, EMPTY_MS));
  const ofVideo = new VideoClock(parts.video);
  const clock = () => (screen.isVideo ? ofVideo : pattern);
  screen.time = () => timeOf(pattern.at_ms);
  const told: Watch["told"] = [];
  const show = (line: DanmakuLine, frame_ms: number) => {
    const { seq, offset_ms, user, class: of, combo } = line;
    const text = combo ? giftText(combo) : line.text;
    told.push({ seq, offset_ms, at_ms: clock().at_ms, frame_ms });
    if (told.length > TOLD_MAX) told.shift();
    if (text === undefined) return;
    const kind = of === "gift" || of === "system" ? of : "chat";
    const isOwn = user === account.user;
    lines.add({ user, text, kind: isOwn ? "own" : kind });
    danmaku.fly(kind === "gift" ? `${user} ${text}` : text, fliesAs(kind, isOwn));
  };
  const clear = () => {
    lines.clear();
    danmaku.clear();
  };
  const failed = (error: Error) => note(words.refused(error.message));
  const playback = new Playback(replay, clock, { show, clear, failed });
  const controls = new Controls(parts.controls, clock, (playing) => {
    danmaku.paused = !playing;
  });
  clock().play();
  return {
    controls,
    told,
    write: async (text) => {
      if ((await account.token()) === "") {
        parts.signIn();
        return false;
      }
      const item = lines.add({ user: account.user ?? "", text, kind: "own" });
      lines.mark(item, "pending");
      danmaku.fly(text, "own");
      try {
        await replay.write(account, text, playback.moment_ms);
        lines.mark(item, "");
      } catch (error) {
        lines.mark(item, "failed", words.notSent);
        failed(error as Error);
      }
      return true;
    },
  };
}

function fliesAs(kind: "chat" | "gift" | "system", isOwn: boolean) {
  if (isOwn) return "own";
  return kind === "chat" ? "plain" : kind;
}
