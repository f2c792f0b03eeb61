/**
 * The chat as a list: bounded, and never moved under somebody who reads back.
 *
 * Owns its elements, and which of them is which message. A line of one's own is there at once, and
 * becomes what the room made of it.
 */

import { words } from "./words.js";

/** Lines that are kept; the oldest go. */
export const LINES_MAX = 200;
/** Closer to the end than this counts as reading along. */
const NEAR = 48;

const MARKS = ["pending", "local", "failed", "held"] as const;
export type Mark = (typeof MARKS)[number];

export interface Line {
  user: string;
  text: string;
  kind: "chat" | "gift" | "system" | "own" | "note";
}

export class Lines {
  private unread = 0;
  /** Lines by the messages they show, of this life of the room. */
  private readonly bySeq = new Map<number, HTMLLIElement>();

  constructor(
    private readonly list: HTMLOListElement,
    private readonly newest: HTMLButtonElement,
  ) {
    newest.onclick = () => this.toEnd();
    list.onscroll = () => {
      if (this.isAtEnd()) this.seen();
    };
  }

  add(line: Line): HTMLLIElement {
    const follow = this.isAtEnd();
    const item = document.createElement("li");
    item.className = line.kind;
    if (line.user !== "") {
      const user = document.createElement("b");
      user.textContent = line.user;
      item.append(user, " ");
    }
    item.append(line.text);
    this.list.append(item);
    while (this.list.childElementCount > LINES_MAX) {
      this.drop(this.list.firstElementChild as HTMLLIElement);
    }
    if (follow) this.list.scrollTop = this.list.scrollHeight;
    else this.count();
    return item;
  }

  /** Says which message a line is. */
  tie(item: HTMLLIElement, seq: number): void {
    if (seq === 0 || item.parentElement !== this.list) return;
    item.dataset.seq = `${seq}`;
    this.bySeq.set(seq, item);
  }

  /** A line says something newer now, as this message does. */
  change(item: HTMLLIElement, text: string, seq: number): void {
    if (item.dataset.seq) this.bySeq.delete(Number(item.dataset.seq));
    item.lastChild!.textContent = text;
    this.tie(item, seq);
  }

  of(seq: number): HTMLLIElement | undefined {
    return this.bySeq.get(seq);
  }

  /** A moderator took these back: nobody reads them any more. */
  recall(seqs: number[]): void {
    for (const seq of seqs) {
      const item = this.bySeq.get(seq);
      if (item) this.drop(item);
    }
    if (this.isAtEnd()) this.seen();
  }

  /** The room began anew: what is told from now on is about other messages. */
  untie(): void {
    for (const item of this.bySeq.values()) delete item.dataset.seq;
    this.bySeq.clear();
  }

  private drop(item: HTMLLIElement): void {
    if (item.dataset.seq) this.bySeq.delete(Number(item.dataset.seq));
    item.remove();
  }

  /** What was said is of another moment. */
  clear(): void {
    this.list.replaceChildren();
    this.bySeq.clear();
    this.seen();
  }

  /** Says something about a line: that others do not see it (yet), or that it was not sent. */
  mark(item: HTMLLIElement, name: Mark | "", text = ""): void {
    item.classList.remove(...MARKS);
    item.querySelector("small")?.remove();
    if (name !== "") item.classList.add(name);
    if (text === "") return;
    const note = document.createElement("small");
    note.textContent = text;
    item.append(note);
  }

  private isAtEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    return scrollTop + clientHeight > scrollHeight - NEAR;
  }

  private toEnd(): void {
    this.list.scrollTop = this.list.scrollHeight;
    this.seen();
  }

  private count(): void {
    this.unread += 1;
    this.newest.hidden = false;
    this.newest.textContent = words.newest(this.unread);
  }

  private seen(): void {
    this.unread = 0;
    this.newest.hidden = true;
  }
}
