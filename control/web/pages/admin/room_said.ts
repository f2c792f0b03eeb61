/**
 * What is said in a room, while an operator listens: each line to recall, its user to act on.
 *
 * Owns one client of the SDK, which is there from the button on until the room is left.
 */

import { RoomMessage, State, Uproar } from "../../sdk/index.js";
import { addresses } from "../addresses.js";
import { ask, Refused } from "./api.js";
import { action, make } from "../elements.js";
import { rowOf } from "./paged.js";
import { recallIn } from "./room_live.js";
import { words } from "./words.js";

/** Lines that are shown; those before them go. */
const SHOWN = 100;
/** Who listens, where the server signs tokens. */
const LISTENER = "operator";
const FORBIDDEN = 403;

export interface Said {
  elements: HTMLElement[];
  /** Ends the listening. */
  leave: () => void;
}

/** `choose` puts a user's name into the forms that take one. */
export function said(path: string, room: string, choose: (user: string) => void): Said {
  let live: Uproar | undefined;
  const lines = new Lines(path, choose);
  const note = make("p", { className: "hint", hidden: true });
  const leave = () => {
    live?.close();
    live = undefined;
  };
  const toggle = make("button", { type: "button" }, words.listen);
  toggle.onclick = () => {
    const begins = live === undefined;
    leave();
    toggle.textContent = begins ? words.stop : words.listen;
    note.hidden = !begins;
    if (begins) live = listen(room, lines, (text) => (note.textContent = text));
  };
  const elements = [make("h3", {}, words.said), make("p", {}, toggle), note, lines.table];
  return { elements, leave };
}

function listen(name: string, lines: Lines, tell: (text: string) => void): Uproar {
  // Without a device of its own: that of whoever chats in this browser is another matter.
  const live = new Uproar({ url: addresses, token: () => tokenFor(name), device: "" });
  live.on("state", (state) => tell(stateOf(state)));
  const room = live.room(name);
  room.on("joined", ({ epoch }) => lines.livesAs(epoch));
  room.on("message", (message) => lines.show(message, false));
  room.on("held", ({ messages }) => messages.forEach((message) => lines.show(message, true)));
  room.on("recalled", ({ seqs }) => lines.recalled(seqs));
  room.on("left", ({ code }) => tell(words.notConnected(`${code}`)));
  room.on("error", ({ code, text }) => tell(words.notConnected(text || `${code}`)));
  return live;
}

/** One that sees what a delayed room holds; a guest's where the server signs none. */
async function tokenFor(room: string): Promise<string> {
  try {
    const body = { user: LISTENER, rooms: [room], publish: [], moderate: true };
    return (await ask("POST", "/v1/tokens", body)).token;
  } catch (error) {
    if (error instanceof Refused && error.status === FORBIDDEN) return "";
    throw error;
  }
}

function stateOf(state: State): string {
  if (state.is === "online") return words.listening;
  const why = "why" in state ? state.why : undefined;
  return words.notConnected(why ? why.text || `${why.code}` : "…");
}

/** The lines of one life of a room, the newest first. */
class Lines {
  private readonly rows = make("tbody");
  readonly table: HTMLTableElement;
  private readonly bySeq = new Map<number, { row: HTMLElement; mark: HTMLElement }>();
  private epoch?: string;

  constructor(
    private readonly path: string,
    private readonly choose: (user: string) => void,
  ) {
    const head = words.saidColumns.map((column) => make("th", {}, column));
    this.table = make("table", { className: "said" }, make("thead", {}, make("tr", {}, ...head)));
    this.table.append(this.rows);
    this.table.hidden = true;
  }

  /** Seqs of another life are of other messages. */
  livesAs(epoch: string): void {
    if (epoch === this.epoch) return;
    this.epoch = epoch;
    this.bySeq.clear();
    this.rows.replaceChildren();
  }

  show({ seq, user, text, combo, gone }: RoomMessage, isHeld: boolean): void {
    const held = isHeld ? words.held : "";
    const known = this.bySeq.get(seq);
    if (known) {
      if (!known.row.classList.contains("gone")) known.mark.textContent = held;
      return;
    }
    const mark = make("small", {}, held);
    const shown = combo ? `${combo.gift} ×${combo.total}` : (text ?? "");
    const row = this.row(seq, user, shown, mark);
    this.rows.prepend(row);
    this.table.hidden = false;
    this.bySeq.set(seq, { row, mark });
    if (gone) this.recalled([seq]);
    if (this.bySeq.size <= SHOWN) return;
    const [oldest] = this.bySeq.keys();
    this.bySeq.get(oldest)!.row.remove();
    this.bySeq.delete(oldest);
  }

  private row(seq: number, user: string, text: string, mark: HTMLElement): HTMLElement {
    const name = make("button", { type: "button", title: words.choose(user) }, user);
    name.onclick = () => this.choose(user);
    const recall = action(
      words.recall,
      [],
      () => recallIn(this.path, { seqs: [seq] }),
      () => words.recallThisSure(user, text),
    );
    recall.querySelector("button")!.setAttribute("aria-label", words.recallThis(seq));
    return rowOf([`${seq}`, name, make("span", {}, text, " ", mark), recall]);
  }

  recalled(seqs: number[]): void {
    for (const line of seqs.map((seq) => this.bySeq.get(seq))) {
      if (!line) continue;
      line.row.className = "gone";
      line.mark.textContent = words.isRecalled;
      line.row.querySelector("form")?.remove();
    }
  }
}
