/** A table that is read page by page: the first one with each look, the next ones by a button. */

import { action, make } from "../elements.js";
import { words } from "./words.js";

export interface PageOfRows {
  rows: HTMLElement[];
  /** Where the next page begins; without one this was the last. */
  next?: string;
}

export class Paged {
  readonly table: HTMLTableElement;
  readonly more: HTMLFormElement;
  /** How many there are, in words. */
  readonly count = make("p");
  private readonly rows = make("tbody");
  private next?: string;
  private reads = 0;

  /** `read`: of the page that begins there; `told`: how many are shown, and whether all. */
  constructor(
    columns: string[],
    private readonly read: (after: string | undefined) => Promise<PageOfRows>,
    private readonly told: (shown: number, hasMore: boolean) => string,
  ) {
    const head = make("tr", {}, ...columns.map((column) => make("th", {}, column)));
    this.table = make("table", { className: "paged" }, make("thead", {}, head), this.rows);
    this.more = action(words.more, [], async () => {
      await this.page(this.next);
      return "";
    });
    this.more.hidden = true;
  }

  /** The first page, in the place of all that is shown. */
  look(): Promise<void> {
    return this.page(undefined);
  }

  private async page(after: string | undefined): Promise<void> {
    this.reads += 1;
    const mine = this.reads;
    const { rows, next } = await this.read(after);
    if (mine !== this.reads) return; // another one was asked for since
    if (after === undefined) this.rows.replaceChildren();
    this.rows.append(...rows);
    this.next = next;
    this.more.hidden = next === undefined;
    const shown = this.rows.childElementCount;
    this.table.hidden = shown === 0;
    this.count.textContent = this.told(shown, next !== undefined);
  }
}

/** `after=...` of a page that has one before it, else nothing. */
export const afterOf = (after: string | undefined): string =>
  after === undefined ? "" : `&after=${encodeURIComponent(after)}`;

/** A row of these cells. */
export const rowOf = (cells: (Node | string)[]): HTMLElement =>
  make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
