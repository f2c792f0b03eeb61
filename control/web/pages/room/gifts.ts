/** Gifts over the video: each a banner for a while; the same one again makes it count up. */

/** A banner stays this long after its last gift. */
const STAY_MS = 4_000;
/** Banners at once; the oldest goes. */
const SHOWN_MAX = 4;
/** Gifts of one banner that can be taken back: the last ones. */
const KNOWN_MAX = 200;

interface Banner {
  item: HTMLLIElement;
  count: number;
  seqs: number[];
  timer?: ReturnType<typeof setTimeout>;
}

export class Gifts {
  private readonly shown = new Map<string, Banner>();

  constructor(private readonly list: HTMLOListElement) {}

  show(user: string, text: string, seq: number): void {
    const key = `${user}\n${text}`;
    const banner = this.shown.get(key) ?? this.make(user, text);
    banner.count += 1;
    banner.seqs.push(seq);
    if (banner.seqs.length > KNOWN_MAX) banner.seqs.shift();
    tell(banner);
    clearTimeout(banner.timer);
    banner.timer = setTimeout(() => this.end(key), STAY_MS);
    this.shown.set(key, banner);
    if (this.shown.size > SHOWN_MAX) this.end(this.shown.keys().next().value!);
  }

  /** These messages were recalled: a banner of nothing else goes, others count them no more. */
  recall(seqs: number[]): void {
    const gone = new Set(seqs);
    for (const [key, banner] of this.shown) {
      const left = banner.seqs.filter((seq) => !gone.has(seq));
      banner.count -= banner.seqs.length - left.length;
      banner.seqs = left;
      if (banner.count > 0) tell(banner);
      else this.end(key);
    }
  }

  /** The room began anew: what is told from now on is about other messages. */
  untie(): void {
    for (const banner of this.shown.values()) banner.seqs = [];
  }

  private make(user: string, text: string): Banner {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = user;
    item.append(name, ` ${text}`);
    this.list.append(item);
    return { item, count: 0, seqs: [] };
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
