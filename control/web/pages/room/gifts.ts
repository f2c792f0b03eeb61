/**
 * Gifts over the video: each a banner for a while; the same one again makes it count up. Of a combo
 * the room says how many there are.
 */

import { Combo } from "../../sdk/index.js";

/** A banner stays this long after its last gift. */
const STAY_MS = 4_000;
/** Banners at once; the oldest goes. */
const SHOWN_MAX = 4;
/** Gifts of one banner that can be taken back: the last ones. */
const KNOWN_MAX = 200;

interface Banner {
  item: HTMLLIElement;
  /** How many there are, but for those that were taken back. */
  count: number;
  recalled: number;
  /** How many gifts each message brought. */
  seqs: Map<number, number>;
  timer?: ReturnType<typeof setTimeout>;
}

export class Gifts {
  private readonly shown = new Map<string, Banner>();

  constructor(private readonly list: HTMLOListElement) {}

  show(user: string, text: string, seq: number, combo?: Combo): void {
    const key = combo ? `${combo.combo}` : `${user}\n${text}`;
    const banner = this.shown.get(key) ?? this.make(user, text);
    banner.count = combo ? combo.total - banner.recalled : banner.count + 1;
    banner.seqs.set(seq, combo?.count ?? 1);
    if (banner.seqs.size > KNOWN_MAX) banner.seqs.delete(banner.seqs.keys().next().value!);
    tell(banner);
    clearTimeout(banner.timer);
    banner.timer = setTimeout(() => this.end(key), STAY_MS);
    this.shown.set(key, banner);
    if (this.shown.size > SHOWN_MAX) this.end(this.shown.keys().next().value!);
  }

  /** These messages were recalled: a banner of nothing else goes, others count them no more. */
  recall(seqs: number[]): void {
    for (const [key, banner] of this.shown) {
      for (const seq of seqs) {
        const gone = banner.seqs.get(seq) ?? 0;
        banner.seqs.delete(seq);
        banner.count -= gone;
        banner.recalled += gone;
      }
      if (banner.count > 0) tell(banner);
      else this.end(key);
    }
  }

  /** The room began anew: what is told from now on is about other messages. */
  untie(): void {
    for (const [key, banner] of [...this.shown]) {
      banner.seqs.clear();
      // Combos are counted anew.
      if (!key.includes("\n")) this.end(key);
    }
  }

  private make(user: string, text: string): Banner {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = user;
    item.append(name, ` ${text}`);
    this.list.append(item);
    return { item, count: 0, recalled: 0, seqs: new Map() };
  }

  private end(key: string): void {
    const banner = this.shown.get(key);
    clearTimeout(banner?.timer);
    banner?.item.remove();
    this.shown.delete(key);
  }
}

function tell({ item, count }: Banner): void {
  if (count > 1) item.dataset.count = `×${count}`;
  else delete item.dataset.count;
}
