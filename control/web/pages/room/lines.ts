/**
 * The chat as a list: bounded, and never moved under somebody who reads back.
 *
 * Owns its elements. A line of one's own is there at once, and becomes what the room made of it.
 */

import { words } from "./words.js";

/** Lines that are kept; the oldest go. */
export const LINES_MAX = 200;
/** Closer to the end than this counts as reading along. */
const NEAR = 48;

export interface Line {
  user: string;
  text: string;
  kind: "chat" | "gift" | "system" | "own" | "note";
}

export class Lines {
  private unread = 0;

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
    while (this.list.childElementCount > LINES_MAX) this.list.firstElementChild!.remove();
    if (follow) this.list.scrollTop = this.list.scrollHeight;
    else this.count();
    return item;
  }

  /** What was said is of another moment. */
  clear(): void {
    this.list.replaceChildren();
    this.seen();
  }

  /** Says something about a line: that others do not see it, or that it was not sent. */
  mark(item: HTMLLIElement, name: "pending" | "local" | "failed" | "", text = ""): void {
    item.classList.remove("pending", "local", "failed");
    item.querySelector("small")?.remove();
    if (name !== "") item.classList.add(name);
    if (text === "") return;
    const note = document.createElement("small");
    note.textContent = text;
    item.append(" ", note);
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
