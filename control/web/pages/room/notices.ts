/** What is told beside the chat: announcements until they are closed, and who comes in. */

import { make } from "../elements.js";
import { words } from "./words.js";

/** Who came in is told for so long, unless others come. */
const ENTERED_MS = 6_000;
/** Names in one notice; the others are counted. */
const NAMES_MAX = 3;

/** The operator's announcement; a newer one takes its place. */
export class Announced {
  constructor(private readonly place: HTMLElement) {
    const close = place.querySelector("button")!;
    close.onclick = () => (place.hidden = true);
  }

  show(user: string, text: string): void {
    const told = this.place.querySelector("span")!;
    told.replaceChildren(make("b", {}, user), ` ${text}`);
    this.place.hidden = false;
  }
}

/** One line, which says who came in last: it is replaced, and never becomes many. */
export class Entered {
  private timer?: ReturnType<typeof setTimeout>;

  constructor(private readonly place: HTMLElement) {}

  show(users: string[], more: number): void {
    const named = users.slice(0, NAMES_MAX);
    this.place.textContent = words.entered(named, more + users.length - named.length);
    // Its height stays once it was there: the chat does not jump with everybody who comes.
    this.place.hidden = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.place.textContent = ""), ENTERED_MS);
  }
}
