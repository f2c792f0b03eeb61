/**
 * The room's polls above the chat: a question, its options to choose from, and how they stand.
 *
 * Owns its elements, and what this page answered. They change in place: who is on a button with the
 * keyboard stays there.
 */

import { Poll, Voted } from "../../sdk/index.js";
import { make } from "../elements.js";
import { words } from "./words.js";

/** Polls at once, as many as a room may have open; those that are over go first. */
const SHOWN_MAX = 4;
/** A result stays so long, unless it is closed. */
const RESULT_MS = 60_000;
const ALREADY_VOTED = 2027;

interface Shown {
  poll: Poll;
  item: HTMLElement;
  options: HTMLButtonElement[];
  state: HTMLElement;
  /** What was answered here. */
  answer?: number;
  /** Whether it may be answered (any more). */
  isOpen: boolean;
  /** It was given again after a break: who has voted has voted so. */
  isAgain: boolean;
  timer?: ReturnType<typeof setTimeout>;
}

export class Polls {
  private readonly shown = new Map<number, Shown>();
  /** Results that were closed, or seen long enough. */
  private readonly done = new Set<number>();

  /** `vote` answers one; `false`: an answer is under way. */
  constructor(
    private readonly place: HTMLElement,
    private readonly vote: (poll: number, option: number) => boolean,
    private readonly note: (text: string) => void,
  ) {}

  /** Those that the room has, as it was joined. One that is not among them has ended unseen. */
  joined(polls: Poll[]): void {
    const known = new Set(polls.map(({ poll }) => poll));
    for (const [number, one] of this.shown) {
      one.isAgain = one.answer !== undefined;
      if (!known.has(number) && !one.poll.over) this.remove(number);
    }
  }

  /** The room began anew: its polls are counted from 1 again. */
  clear(): void {
    for (const number of [...this.shown.keys()]) this.remove(number);
    this.done.clear();
  }

  show(poll: Poll): void {
    if (poll.options.length === 0 || this.done.has(poll.poll)) return;
    const one = this.shown.get(poll.poll) ?? this.make(poll);
    one.poll = poll;
    if (poll.over && one.timer === undefined) {
      one.timer = setTimeout(() => this.close(poll.poll), RESULT_MS);
    }
    this.draw(one);
  }

  voted({ poll: number, option, code }: Voted): void {
    const one = this.shown.get(number);
    if (!one) return;
    const isCounted = code === 0 || (code === ALREADY_VOTED && one.isAgain);
    if (isCounted) one.answer = option;
    else {
      one.answer = undefined;
      // A refusal that does not say that it is too late may be tried again.
      one.isOpen = code !== ALREADY_VOTED && !one.poll.over;
      this.note(words.code(code, 0) ?? words.notCounted);
    }
    this.draw(one);
  }

  private make(poll: Poll): Shown {
    const state = make("small");
    const close = make("button", { type: "button", className: "close" }, "×");
    close.setAttribute("aria-label", words.close);
    close.onclick = () => this.close(poll.poll);
    const options = poll.options.map((text, place) => {
      const option = make("button", { type: "button" }, make("span", {}, text), make("b"));
      option.onclick = () => this.choose(poll.poll, place);
      return option;
    });
    const question = make("p", {}, poll.question);
    const item = make("section", { className: "poll" }, question, close, ...options, state);
    item.setAttribute("aria-label", poll.question);
    const one: Shown = { poll, item, options, state, isOpen: true, isAgain: false };
    this.shown.set(poll.poll, one);
    this.place.append(item);
    this.bound();
    return one;
  }

  /** The oldest that is over goes, or the oldest. */
  private bound(): void {
    while (this.shown.size > SHOWN_MAX) {
      const all = [...this.shown.values()];
      const oldest = all.find(({ poll }) => poll.over) ?? all[0];
      this.close(oldest.poll.poll);
    }
  }

  private choose(number: number, option: number): void {
    const one = this.shown.get(number)!;
    if (!one.isOpen || one.answer !== undefined || one.poll.over) return;
    if (!this.vote(number, option)) return;
    one.answer = option;
    one.isAgain = false;
    this.draw(one);
  }

  private draw({ poll, item, options, state, answer, isOpen }: Shown): void {
    const all = poll.votes.reduce((sum, votes) => sum + votes, 0);
    const most = Math.max(...poll.votes, 1);
    const isClosed = poll.over || !isOpen || answer !== undefined;
    item.classList.toggle("over", poll.over);
    options.forEach((option, place) => {
      const votes = poll.votes[place] ?? 0;
      option.querySelector("b")!.textContent = votes.toLocaleString();
      option.style.setProperty("--share", `${all > 0 ? (100 * votes) / all : 0}%`);
      option.setAttribute("aria-pressed", `${answer === place}`);
      // Not `disabled`: that would take the focus away.
      option.setAttribute("aria-disabled", `${isClosed}`);
      option.classList.toggle("most", poll.over && votes === most);
    });
    state.textContent = poll.over ? words.pollOver(all) : words.pollVotes(all);
  }

  /** It is not shown again while the room lives. */
  private close(number: number): void {
    this.done.add(number);
    this.remove(number);
  }

  private remove(number: number): void {
    const one = this.shown.get(number);
    clearTimeout(one?.timer);
    one?.item.remove();
    this.shown.delete(number);
  }
}
