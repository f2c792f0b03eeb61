/** What a room is set to: every setting it has, and its attributes. */

import { ask } from "./api.js";
import { action, area, choice, field, make } from "../elements.js";
import { words } from "./words.js";

export interface Settings {
  attributes: Record<string, string>;
  rate_per_s: number;
  user_rate_per_s: number;
  slow_mode_s: number;
  payload_bytes_max: number;
  viewers_max: number;
  guests_publish: boolean;
  filter: boolean;
  mute_all: boolean;
  allowed: string[];
  unique_s: number;
  delay_ms: number;
  enter_events: boolean;
  before_publish: string;
  followers_only_s: number | null;
}

const NUMBERS = [
  "rate_per_s",
  "user_rate_per_s",
  "slow_mode_s",
  "unique_s",
  "delay_ms",
  "payload_bytes_max",
  "viewers_max",
] as const;

const SWITCHES = ["guests_publish", "filter", "mute_all", "enter_events"] as const;

export function settings(path: string, now: Settings): HTMLElement {
  const names = words.settingNames;
  const fields = NUMBERS.map((name) =>
    field(names[name], name, { type: "number", min: "0", required: true, value: `${now[name]}` }),
  );
  for (const name of SWITCHES) {
    fields.push(field(names[name], name, { type: "checkbox", checked: now[name] }));
  }
  const followers = { type: "number", min: "0", value: `${now.followers_only_s ?? ""}` };
  fields.push(field(names.followers_only_s, "followers_only_s", followers));
  const allowed = make("textarea", { name: "allowed", rows: 2, value: now.allowed.join("\n") });
  fields.push(make("label", {}, `${names.allowed} `, allowed));
  // What holds where the platform has not decided about a message in time.
  const asks = choice(names.before_publish, "before_publish", words.before);
  asks.value = now.before_publish;
  fields.push(make("label", {}, `${names.before_publish} `, asks));
  let known = now;
  const form = action(words.set, fields, async (given) => {
    const changed = differences(known, given);
    if (Object.keys(changed).length === 0) return words.nothingChanged;
    // Only what was changed here: another operator may have changed the rest meanwhile.
    known = (await ask("PATCH", path, changed)).settings;
    return words.isSet;
  });
  return make("div", {}, make("h3", {}, words.settings), form);
}

/** What a form says that is not so. */
function differences(known: Settings, given: FormData): Partial<Settings> {
  const changed: Partial<Settings> = {};
  for (const name of NUMBERS) {
    const number = Number(given.get(name));
    if (number !== known[name]) changed[name] = number;
  }
  for (const name of SWITCHES) {
    const is = given.get(name) !== null;
    if (is !== known[name]) changed[name] = is;
  }
  const before = `${given.get("before_publish")}`;
  if (before !== known.before_publish) changed.before_publish = before;
  const since = given.get("followers_only_s");
  const followers = since === "" || since === null ? null : Number(since);
  if (followers !== known.followers_only_s) changed.followers_only_s = followers;
  const allowed = linesOf(given.get("allowed"));
  if (allowed.slice().sort().join("\n") !== known.allowed.slice().sort().join("\n")) {
    changed.allowed = allowed;
  }
  return changed;
}

/** The lines of a text that say something. */
export function linesOf(text: FormDataEntryValue | null): string[] {
  const lines = `${text ?? ""}`.split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "");
}

export function attributes(path: string, now: Settings): HTMLElement {
  const text = Object.entries(now.attributes)
    .map(([key, value]) => `${key}=${value}`)
    .join("\n");
  const lines = area(words.attributesLabel, "attributes", { value: text, rows: 4 });
  const form = action(words.replaceAttributes, [lines], async (given) => {
    const pairs = linesOf(given.get("attributes")).map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(words.noPair(line));
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    });
    await ask("PATCH", path, { attributes: Object.fromEntries(pairs) });
    return words.attributesSet;
  });
  return make("div", {}, make("h3", {}, words.attributes), form);
}
