/**
 * What is said in the room, wherever it is seen: as a line, over the video, as a gift's banner.
 *
 * Owns which message is which of them, so that a recall takes it off all of them, and what waits
 * for the room's verdict.
 */

import { Combo, Fate, Heard, Joined, RoomMessage, Said } from "../../sdk/index.js";
import { Danmaku, Flying } from "./danmaku.js";
import { Gifts } from "./gifts.js";
import { Lines } from "./lines.js";
import { words } from "./words.js";

/** Recalls that may come before their messages do; the oldest are forgotten. */
const RECALLED_MAX = 1_000;

/** Combos whose lines count up; the oldest are let go. */
const COMBOS_MAX = 100;

/** Something of one's own, until the room has decided. */
interface Own {
  item: HTMLLIElement;
  flight?: Flying;
}

export class Talk {
  private readonly own = new Map<string, Own>();
  private readonly recalledSeqs = new Set<number>();
  /** The lines of combos. */
  private readonly combos = new Map<number, HTMLLIElement>();
  private epoch = "";

  constructor(
    private readonly lines: Lines,
    private readonly danmaku: Danmaku,
    private readonly gifts: Gifts,
  ) {}

  /** Before anything else of a join. `true`: the room began anew since it was known. */
  joined({ epoch, messages }: Joined): boolean {
    const isNew = this.epoch !== "" && this.epoch !== epoch;
    this.epoch = epoch;
    if (isNew) {
      this.recalledSeqs.clear();
      this.combos.clear();
      for (const place of [this.lines, this.danmaku, this.gifts]) place.untie();
    }
    // What was shown early, and recalled while nothing came through, is told by its blank alone.
    this.recalled(messages.filter(({ gone }) => gone).map(({ seq }) => seq));
    return isNew;
  }

  heard(message: Heard): void {
    const { seq, user, text = "", own, history, combo } = message;
    if (combo) return this.given(message, combo);
    const early = this.lines.of(seq);
    if (early?.classList.contains("held")) this.lines.mark(early, "");
    // One's own line is there since it was said.
    if ((own && !history) || this.recalledSeqs.has(seq)) return;
    const kind = kindOf(message);
    if (!early) this.lines.tie(this.lines.add({ user, text, kind }), seq);
    if (history) return;
    if (kind === "gift") this.gifts.show(user, text, seq);
    const flies = kind === "gift" ? `${user} ${text}` : text;
    this.danmaku.fly(flies, kind === "chat" ? "plain" : kind, seq);
  }

  /** A gift with a name: one line and one banner of a combo, whoever gave it. */
  private given({ seq, user, history }: Heard, combo: Combo): void {
    if (this.recalledSeqs.has(seq)) return;
    const text = giftText(combo);
    const early = this.lines.of(seq);
    if (early) this.lines.mark(early, "");
    const known = this.combos.get(combo.combo) ?? early;
    const item = known?.isConnected ? known : this.lines.add({ user, text, kind: "gift" });
    this.lines.change(item, text, seq);
    if (early && early !== item) early.remove();
    if (!history) {
      this.gifts.show(user, combo.gift, seq, combo);
      if (!this.combos.has(combo.combo)) this.danmaku.fly(`${user} ${text}`, "gift", seq);
    }
    this.combos.set(combo.combo, item);
    if (this.combos.size > COMBOS_MAX) this.combos.delete(this.combos.keys().next().value!);
  }

  /** To a moderator: what viewers do not see yet. Nothing flies before they do. */
  held(messages: RoomMessage[]): void {
    for (const message of messages) {
      const { seq, user, client_msg_id, gone, combo } = message;
      const text = combo ? giftText(combo) : (message.text ?? "");
      if (gone || this.recalledSeqs.has(seq)) continue;
      const own = this.own.get(`${client_msg_id}`);
      const known = own?.item ?? this.lines.of(seq);
      const item = known ?? this.lines.add({ user, text, kind: kindOf(message) });
      this.lines.tie(item, seq);
      this.lines.mark(item, "held", words.held);
    }
  }

  said({ id, text = "", gift }: Said, user: string): void {
    if (gift) return; // seen once the room has counted it
    const item = this.lines.add({ user, text, kind: "own" });
    this.lines.mark(item, "pending");
    this.own.set(`${id}`, { item, flight: this.danmaku.fly(text, "own") });
  }

  judged(fate: Fate): void {
    const own = this.own.get(`${fate.id}`);
    this.own.delete(`${fate.id}`);
    if (!own) return;
    const { item, flight } = own;
    switch (fate.outcome) {
      case "accepted":
      case "merged":
        if (!item.classList.contains("held")) this.lines.mark(item, "");
        this.lines.tie(item, fate.seq);
        if (flight) flight.seq = fate.seq;
        if (this.recalledSeqs.has(fate.seq)) this.recalled([fate.seq]);
        return;
      case "shed":
      case "expired":
        return this.lines.mark(item, "local", words.onlyYou);
      default:
        return this.lines.mark(item, "failed", words.notSent);
    }
  }

  recalled(seqs: number[]): void {
    if (seqs.length === 0) return;
    for (const place of [this.lines, this.danmaku, this.gifts]) place.recall(seqs);
    for (const seq of seqs) this.recalledSeqs.add(seq);
    while (this.recalledSeqs.size > RECALLED_MAX) {
      this.recalledSeqs.delete(this.recalledSeqs.values().next().value!);
    }
  }
}

/** A combo as a line. */
export function giftText({ gift, total }: Combo): string {
  return total > 1 ? `${gift} ×${total}` : gift;
}

function kindOf({ class: of }: RoomMessage): "chat" | "gift" | "system" {
  return of === "gift" || of === "system" ? of : "chat";
}
