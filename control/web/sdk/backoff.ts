/** How long to wait before the next try (S-24). Owns the bound; chance comes in as a number. */

/** The bound after the first failure. */
export const FIRST_MS = 1_000;
/** The bound is never larger. */
export const LAST_MS = 30_000;

export class Backoff {
  private bound = FIRST_MS;

  /** Of a uniform `chance` in [0, 1): a wait below the bound, which then doubles. */
  next(chance: number): number {
    const wait = this.bound * chance;
    this.bound = Math.min(this.bound * 2, LAST_MS);
    return wait;
  }

  /** It went well. */
  reset(): void {
    this.bound = FIRST_MS;
  }
}
