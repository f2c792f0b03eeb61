/**
 * What /metrics says, and how it moved: pure, without a page or a clock.
 *
 * Owns the reading of the Prometheus text and the arithmetic of rates; every number that the page
 * shows comes from here.
 */

/** Values by name and labels as they stand in the text: `name{a="b"}`. */
export type Scrape = Map<string, number>;

/** One moment. */
export interface Moment {
  at_ms: number;
  scrape: Scrape;
}

export function parse(text: string): Scrape {
  const scrape: Scrape = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const end = line.lastIndexOf(" ");
    scrape.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return scrape;
}

/** The value of a label in a key, or `undefined`. */
export function label(key: string, name: string): string | undefined {
  return key.match(new RegExp(`[{,]${name}="((?:[^"\\\\]|\\\\.)*)"`))?.[1];
}

/** The keys of a family that have these labels. */
function keys(scrape: Scrape, family: string, where: Record<string, string>): string[] {
  const wanted = Object.entries(where);
  return [...scrape.keys()].filter((key) => {
    const is = key === family || key.startsWith(`${family}{`);
    return is && wanted.every(([name, value]) => label(key, name) === value);
  });
}

/** The sum of a family, of all that has these labels. */
export function sum(scrape: Scrape, family: string, where: Record<string, string> = {}): number {
  return keys(scrape, family, where).reduce((sum, key) => sum + scrape.get(key)!, 0);
}

/** The values a label has in a family. */
export function values(scrape: Scrape, family: string, name: string): string[] {
  const found = keys(scrape, family, {}).map((key) => label(key, name));
  return [...new Set(found.filter((value) => value !== undefined))];
}

/** What a counter rose by in a second between two moments; a restart begins at 0 again. */
export function rate(
  before: Moment,
  now: Moment,
  family: string,
  where: Record<string, string> = {},
): number {
  const [was, is] = [sum(before.scrape, family, where), sum(now.scrape, family, where)];
  const seconds = (now.at_ms - before.at_ms) / 1_000;
  return seconds > 0 ? Math.max(0, is < was ? is : is - was) / seconds : 0;
}

/**
 * A quantile of a histogram over what came between two moments, by its upper bound: what was
 * observed is at most this. `undefined`: nothing was observed.
 */
export function quantile(
  before: Moment,
  now: Moment,
  family: string,
  of: number,
): number | undefined {
  const bucket = `${family}_bucket`;
  const counts = values(now.scrape, bucket, "le").map((le) => {
    const rise = sum(now.scrape, bucket, { le }) - sum(before.scrape, bucket, { le });
    return { le: le === "+Inf" ? Infinity : Number(le), rise };
  });
  counts.sort((a, b) => a.le - b.le);
  const all = counts.at(-1)?.rise ?? 0;
  if (all <= 0) return undefined;
  return counts.find(({ rise }) => rise >= all * of)?.le;
}

/** The last few minutes. */
export class History {
  readonly moments: Moment[] = [];

  constructor(private readonly span_ms: number) {}

  add(moment: Moment): void {
    this.moments.push(moment);
    while (this.moments[0].at_ms < moment.at_ms - this.span_ms) this.moments.shift();
  }

  get last(): Moment | undefined {
    return this.moments.at(-1);
  }

  /** A figure of every two moments that follow each other: the later one's time, and the figure. */
  pairs(of: (before: Moment, now: Moment) => number | undefined): [number, number | undefined][] {
    return this.moments
      .slice(1)
      .map((now, place) => [now.at_ms, of(this.moments[place], now)] as [number, number]);
  }
}
