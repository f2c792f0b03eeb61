/** The language of a page, and how its words get into its markup. Owns no word. */

const asked = new URLSearchParams(location.search).get("lang") ?? navigator.language;
export const language = asked.toLowerCase().startsWith("zh") ? "zh" : "en";

/**
 * Fills in what stands in a page's markup: `data-word` as text, `data-word-title` as a title,
 * `data-word-label` as a label of what has no text.
 */
export function fillIn(document: Document, words: object): void {
  const all = words as Record<string, string>;
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll<HTMLElement>("[data-word]")) {
    element.textContent = all[element.dataset.word!];
  }
  for (const element of document.querySelectorAll<HTMLElement>("[data-word-title]")) {
    element.title = all[element.dataset.wordTitle!];
  }
  for (const element of document.querySelectorAll<HTMLElement>("[data-word-label]")) {
    const word = all[element.dataset.wordLabel!];
    element.setAttribute("aria-label", word);
    if (element instanceof HTMLInputElement || element instanceof HTMLTextAreaElement) {
      element.placeholder = word;
    }
  }
}
