/** The list that messages are held against: how long it is, changes of it, and a text to try. */

import { ask } from "./api.js";
import { linesOf } from "./room_settings.js";
import { action, make } from "../elements.js";

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

/** What is done with lines: as the interface calls it, and its name here. */
const CHANGES = [
  ["add_words", "add words"],
  ["remove_words", "remove words"],
  ["add_regexes", "add regexes"],
  ["remove_regexes", "remove regexes"],
] as const;

export async function openFilter(place: HTMLElement): Promise<void> {
  const figures = make("p", { className: "figures" });
  const regexes = make("ul");
  // The list may be long: it is fetched at the beginning and after changes, never by the clock.
  const look = async () => {
    const list = (await ask("GET", "/v1/filter")) as List;
    figures.replaceChildren(
      ...[
        [list.words.length, "words"],
        [list.regexes.length, "regexes"],
        [list.version, "is the version"],
      ].map(([number, what]) =>
        make("span", {}, make("b", {}, number.toLocaleString("en")), ` ${what}`),
      ),
    );
    regexes.replaceChildren(...list.regexes.map((one) => make("li", {}, make("code", {}, one))));
  };
  await look();
  place.replaceChildren(make("h2", {}, "Filter"), figures, change(look), trial(), regexes);
}

function change(look: () => Promise<void>): HTMLElement {
  const what = make("select", { name: "what" });
  for (const [value, name] of CHANGES) what.append(make("option", { value }, name));
  what.setAttribute("aria-label", "What is done with these lines");
  const lines = make("textarea", { name: "lines", rows: 4, required: true });
  lines.setAttribute("aria-label", "Words or regexes, one a line");
  return action("Change the list", [what, lines], async (given) => {
    const body = { [`${given.get("what")}`]: linesOf(given.get("lines")) };
    const { version } = await ask("PATCH", "/v1/filter", body);
    await look();
    return `the list is version ${version} now`;
  });
}

function trial(): HTMLElement {
  const text = make("textarea", { name: "text", rows: 2, required: true });
  text.setAttribute("aria-label", "A text to check");
  return action("Check this text", [text], async (given) => {
    const tried = (await ask("POST", "/v1/filter/check", { text: given.get("text") })) as Tried;
    if (!tried.hit) return `passes; it is read as "${tried.normal}"`;
    return `is refused for ${[...tried.words, ...tried.regexes].join(", ")}`;
  });
}
