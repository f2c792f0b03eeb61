/** Gifts over the video: each a banner for a while; the same one again makes it count up. */

/** A banner stays this long after its last gift. */
const STAY_MS = 4_000;
/** Banners at once; the oldest goes. */
const SHOWN_MAX = 4;

interface Banner {
  item: HTMLLIElement;
  count: number;
  timer?: ReturnType<typeof setTimeout>;
}

export class Gifts {
  private readonly shown = new Map<string, Banner>();

  constructor(private readonly list: HTMLOListElement) {}

  show(user: string, text: string): void {
    const key = `${user}\n${text}`;
    const banner = this.shown.get(key) ?? this.make(user, text);
    banner.count += 1;
    if (banner.count > 1) banner.item.dataset.count = `×${banner.count}`;
    clearTimeout(banner.timer);
    banner.timer = setTimeout(() => this.end(key), STAY_MS);
    this.shown.set(key, banner);
    if (this.shown.size > SHOWN_MAX) this.end(this.shown.keys().next().value!);
  }

  private make(user: string, text: string): Banner {
    const item = document.createElement("li");
    const name = document.createElement("b");
    name.textContent = user;
    item.append(name, ` ${text}`);
    this.list.append(item);
    return { item, count: 0 };
  }

  private end(key: string): void {
    const banner = this.shown.get(key);
    clearTimeout(banner?.timer);
    banner?.item.remove();
    this.shown.delete(key);
  }
}
