/**
 * One conversation as a list of messages that is bounded in the page: what is far from where its
 * reader is, is not drawn.
 *
 * Owns its elements and which messages are drawn. Asks for older ones when somebody scrolls up.
 */

import { StoredMessage } from "../../sdk/index.js";
import { make } from "../elements.js";
import { Chat, Pending } from "./chats.js";
import { lineOf } from "./lines.js";
import { momentOf } from "./list.js";
import { reason, words } from "./words.js";

/** Messages drawn at once. */
export const DRAWN_MAX = 200;
/** Drawn when a conversation is opened, and more of at a time when somebody scrolls. */
const STEP = 50;
/** Closer than this to an end counts as being there, in pixels. */
const NEAR = 120;
const REACTIONS = ["👍", "❤️", "😂"];

/** What somebody does with a message. */
export interface ThreadActs {
  older(chat: Chat): Promise<void>;
  recall(chat: Chat, message: StoredMessage): void;
  react(chat: Chat, message: StoredMessage, reaction: string): void;
  again(chat: Chat, pending: Pending): void;
  drop(chat: Chat, pending: Pending): void;
  /** The reader is at the end and has seen all of it. */
  seen(chat: Chat): void;
}

export class Thread {
  chat?: Chat;
  /** The messages that are drawn: some that follow each other. */
  private drawn: StoredMessage[] = [];
  private readonly rows = new Map<number, HTMLElement>();
  private asking = false;
  /** The reader was at the end when that was last looked at. */
  private wasAtEnd = true;
  private fresh = 0;

  constructor(
    private readonly scroll: HTMLElement,
    private readonly list: HTMLElement,
    private readonly waiting: HTMLElement,
    private readonly newest: HTMLButtonElement,
    private readonly me: string,
    private readonly acts: ThreadActs,
  ) {
    scroll.onscroll = () => void this.scrolled();
    newest.onclick = () => this.toEnd();
    // A keyboard that comes up, or a phone that is turned, leaves who reads along at the end.
    new ResizeObserver(() => this.wasAtEnd && this.down()).observe(scroll);
  }

  open(chat: Chat | undefined): void {
    this.chat = chat;
    this.toEnd();
  }

  /** Draws the newest messages. */
  toEnd(): void {
    this.rows.clear();
    this.fresh = 0;
    this.drawn = this.chat?.messages.slice(-STEP) ?? [];
    this.list.replaceChildren(...this.drawn.map((message) => this.row(message)));
    this.drawPending();
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.tell();
    void this.scrolled();
  }

  /** A message has come at the end. */
  added(message: StoredMessage): void {
    if (!this.chat) return;
    const isNext = this.chat.messages.at(-2) === this.drawn.at(-1) || this.drawn.length === 0;
    const wasAtEnd = this.isAtEnd();
    if (isNext) {
      this.drawn.push(message);
      this.list.append(this.row(message));
      if (wasAtEnd) this.cutTop();
      else this.cutEnd();
    }
    this.drawPending();
    if (message.user === this.me && !isNext) return this.toEnd();
    if (wasAtEnd || message.user === this.me) this.down();
    else this.fresh += message.kind === "message" ? 1 : 0;
    this.tell();
  }

  /** Something about a message has changed. */
  changed(message: StoredMessage): void {
    const old = this.rows.get(message.seq);
    const follow = this.isAtEnd();
    if (old) old.replaceWith(this.row(message));
    if (follow) this.down();
  }

  /** How far the messages of this user have come. */
  reached(): void {
    for (const message of this.drawn) {
      const mark = this.rows.get(message.seq)?.querySelector<HTMLElement>(".reach");
      if (mark) this.mark(mark, message);
    }
  }

  drawPending(): void {
    const pending = this.chat?.pending ?? [];
    this.waiting.replaceChildren(...pending.map((one) => this.pendingRow(one)));
  }

  /** To the end of what is drawn. */
  down(): void {
    this.scroll.scrollTop = this.scroll.scrollHeight;
    this.tell();
  }

  // ------------------------------------------------------------ where its reader is

  isAtEnd(): boolean {
    const { scrollTop, clientHeight, scrollHeight } = this.scroll;
    const isDrawn = this.drawn.at(-1) === this.chat?.last || this.isBehind();
    return isDrawn && scrollTop + clientHeight > scrollHeight - NEAR;
  }

  /** The newest message was not drawn yet, but the one before it was. */
  private isBehind(): boolean {
    return this.chat?.messages.at(-2) === this.drawn.at(-1);
  }

  private tell(): void {
    const atEnd = (this.wasAtEnd = this.isAtEnd());
    if (atEnd) this.fresh = 0;
    this.newest.hidden = atEnd;
    this.newest.textContent = words.newest(this.fresh);
    if (atEnd && this.chat) this.acts.seen(this.chat);
  }

  private async scrolled(): Promise<void> {
    this.tell();
    const { chat } = this;
    if (!chat || this.asking) return;
    const { scrollTop, clientHeight, scrollHeight } = this.scroll;
    if (scrollTop + clientHeight > scrollHeight - NEAR && this.drawn.at(-1) !== chat.last) {
      return this.drawLater(chat);
    }
    if (scrollTop > NEAR) return;
    if (this.drawn[0] === chat.messages[0] && chat.hasOlder) {
      this.asking = true;
      await this.acts.older(chat).finally(() => (this.asking = false));
      if (this.chat !== chat) return;
    }
    this.drawEarlier(chat);
  }

  private drawEarlier(chat: Chat): void {
    const place = this.drawn.length > 0 ? chat.messages.indexOf(this.drawn[0]) : 0;
    const earlier = chat.messages.slice(Math.max(0, place - STEP), place);
    if (earlier.length === 0) return;
    const { scrollTop, scrollHeight } = this.scroll;
    this.drawn.unshift(...earlier);
    this.list.prepend(...earlier.map((message) => this.row(message)));
    // What is read stays where it was: what came above it moved it down.
    const moved = this.scroll.scrollHeight - scrollHeight;
    this.cutEnd();
    this.scroll.scrollTop = scrollTop + moved;
    this.tell();
  }

  private drawLater(chat: Chat): void {
    const place = chat.messages.indexOf(this.drawn.at(-1)!);
    const later = chat.messages.slice(place + 1, place + 1 + STEP);
    this.drawn.push(...later);
    this.list.append(...later.map((message) => this.row(message)));
    const { scrollTop, scrollHeight } = this.scroll;
    this.cutTop();
    this.scroll.scrollTop = scrollTop + this.scroll.scrollHeight - scrollHeight;
    this.tell();
  }

  /** Takes the oldest ones out, where there are too many. */
  private cutTop(): void {
    this.undraw(this.drawn.splice(0, Math.max(0, this.drawn.length - DRAWN_MAX)));
  }

  private cutEnd(): void {
    this.undraw(this.drawn.splice(DRAWN_MAX));
  }

  private undraw(messages: StoredMessage[]): void {
    for (const { seq } of messages) {
      this.rows.get(seq)?.remove();
      this.rows.delete(seq);
    }
  }

  // ------------------------------------------------------------ rows

  private row(message: StoredMessage): HTMLElement {
    const chat = this.chat!;
    const item = make("li", {});
    item.dataset.seq = `${message.seq}`;
    this.rows.set(message.seq, item);
    const isOwn = message.user === this.me;
    item.className = message.notice ? "notice" : isOwn ? "own" : "other";
    if (message.notice) {
      item.textContent = lineOf(message, false);
      return item;
    }
    item.tabIndex = 0;
    if (chat.isGroup && !isOwn) item.append(make("b", {}, message.user));
    const text = make("p", {}, lineOf(message, false));
    if (message.gone) item.classList.add("gone");
    const foot = make("footer", {}, make("time", {}, momentOf(message.time_ms)));
    if (message.edited_seq > 0 && !message.gone) foot.append(" ", words.edited);
    if (isOwn && !message.gone) {
      const mark = make("span", { className: "reach" });
      this.mark(mark, message);
      foot.append(" ", mark);
    }
    item.append(text, ...this.reactions(message), foot);
    if (!message.gone && !chat.left) item.append(this.tools(chat, message, isOwn));
    return item;
  }

  private mark(mark: HTMLElement, { seq }: StoredMessage): void {
    const chat = this.chat!;
    if (chat.isGroup) {
      const readers = chat.readers.get(seq) ?? 0;
      mark.textContent = readers > 0 ? words.readBy(readers) : words.sent;
      return;
    }
    const reach = chat.reach(seq);
    mark.dataset.reach = reach;
    mark.textContent = words[reach];
  }

  private reactions(message: StoredMessage): HTMLElement[] {
    if (message.reactions.length === 0) return [];
    const chat = this.chat!;
    const shown = message.reactions.map(({ reaction, count }) => {
      const button = make("button", { type: "button" }, `${reaction} ${count}`);
      button.setAttribute("aria-pressed", `${message.own_reactions.includes(reaction)}`);
      button.onclick = () => this.acts.react(chat, message, reaction);
      return button;
    });
    return [make("div", { className: "reactions" }, ...shown)];
  }

  private tools(chat: Chat, message: StoredMessage, isOwn: boolean): HTMLElement {
    const tools = make("div", { className: "tools" });
    for (const reaction of REACTIONS) {
      const button = make("button", { type: "button" }, reaction);
      button.setAttribute("aria-label", words.react(reaction));
      button.onclick = () => this.acts.react(chat, message, reaction);
      tools.append(button);
    }
    if (isOwn) {
      const recall = make("button", { type: "button", className: "recall" }, words.recall);
      recall.onclick = () => this.acts.recall(chat, message);
      tools.append(recall);
    }
    return tools;
  }

  private pendingRow(pending: Pending): HTMLElement {
    const chat = this.chat!;
    const isFailed = pending.why !== "";
    const why = isFailed ? words.failed(reason(pending.code, pending.why)) : words.sending;
    const foot = make("footer", {}, why);
    const item = make("li", { className: isFailed ? "own failed" : "own sending" });
    item.append(make("p", {}, pending.text), foot);
    if (isFailed) {
      const again = make("button", { type: "button", className: "again" }, words.again);
      again.onclick = () => this.acts.again(chat, pending);
      const drop = make("button", { type: "button" }, words.drop);
      drop.onclick = () => this.acts.drop(chat, pending);
      foot.append(" ", again, " ", drop);
    }
    return item;
  }
}
