/** The list that messages are held against: how long it is, changes of it, and a text to try. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, area, choice, make } from "../elements.js";
import { words } from "./words.js";

interface List {
  version: number;
  words: string[];
  regexes: string[];
}

interface Tried {
  hit: boolean;
  words: string[];
  regexes: string[];
  normal: string;
}

export async function openFilter(place: HTMLElement): Promise<void> {
  const figures = make("p", { className: "figures" });
  const regexes = make("ul");
  // The list may be long: it is fetched at the beginning and after changes, never by the clock.
  const look = async () => {
    const list = (await ask("GET", "/v1/filter")) as List;
    figures.replaceChildren(
      ...[
        [list.words.length, words.filterWords],
        [list.regexes.length, words.filterRegexes],
        [list.version, words.filterVersion],
      ].map(([number, what]) =>
        make("span", {}, make("b", {}, number.toLocaleString("en")), ` ${what}`),
      ),
    );
    regexes.replaceChildren(...list.regexes.map((one) => make("li", {}, make("code", {}, one))));
  };
  await look();
  place.replaceChildren(make("h2", {}, words.filterTitle), figures, change(look), trial(), regexes);
}

function change(look: () => Promise<void>): HTMLElement {
  const what = choice(words.filterWhat, "what", words.filterChanges);
  const lines = area(words.filterLines, "lines", { rows: 4, required: true });
  return action(words.filterChange, [what, lines], async (given) => {
    const body = { [`${given.get("what")}`]: linesOf(given.get("lines")) };
    const { version } = await ask("PATCH", "/v1/filter", body);
    await look();
    return words.filterNow(version);
  });
}

function trial(): HTMLElement {
  const text = area(words.tryLabel, "text", { rows: 2, required: true });
  return action(words.tryText, [text], async (given) => {
    const tried = (await ask("POST", "/v1/filter/check", { text: given.get("text") })) as Tried;
    if (!tried.hit) return words.passes(tried.normal);
    return words.refusedFor([...tried.words, ...tried.regexes]);
  });
}
