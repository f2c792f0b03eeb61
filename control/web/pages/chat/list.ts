/** The list of conversations: who, what was said last, how much is unread. Owns its elements. */

import { make } from "../elements.js";
import { Chat, Chats } from "./chats.js";
import { lineOf } from "./lines.js";
import { words } from "./words.js";

/** Conversations in the list; those that rested longest are not shown. */
export const SHOWN_MAX = 300;

export function drawList(list: HTMLElement, chats: Chats, open: Chat | undefined): void {
  const shown = chats.sorted().slice(0, SHOWN_MAX);
  const focused = (document.activeElement as HTMLElement | null)?.closest("li")?.dataset.name;
  list.replaceChildren(...shown.map((chat) => entry(chat, chat === open)));
  if (focused === undefined || !list.isConnected) return;
  // Who moves through it by keyboard stays where they are, though it was drawn anew.
  const items = [...list.querySelectorAll<HTMLElement>("li")];
  items
    .find((item) => item.dataset.name === focused)
    ?.querySelector("a")
    ?.focus();
}

function entry(chat: Chat, isOpen: boolean): HTMLElement {
  const last = chat.last;
  const name = make("b", {}, chat.title);
  const when = make("time", {}, last ? momentOf(last.time_ms) : "");
  const line = make("span", { className: "last" }, last ? lineOf(last, chat.isGroup) : "");
  const link = make("a", { href: `#${encodeURIComponent(chat.name)}` }, name, when, line);
  if (isOpen) link.setAttribute("aria-current", "true");
  if (chat.unread > 0) {
    const count = make("i", { className: "unread" }, `${chat.unread}`);
    count.setAttribute("aria-label", words.unread(chat.unread));
    link.append(count);
  }
  const item = make("li", {}, link);
  item.dataset.name = chat.name;
  return item;
}

/** The time of day, or the day where it is another one. */
export function momentOf(time_ms: number): string {
  const at = new Date(time_ms);
  const isToday = at.toDateString() === new Date().toDateString();
  return isToday
    ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : at.toLocaleDateString();
}
