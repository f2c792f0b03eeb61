/** A word to every connection that is in a room, after a second thought. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";
import { words } from "./words.js";

export function broadcast(): HTMLElement[] {
  const fields = [
    field(words.as, "user", { value: "uproar", required: true }),
    field(words.text, "text", { required: true }),
  ];
  const tell = async (given: FormData) => {
    await ask("POST", "/v1/broadcast", { user: given.get("user"), text: given.get("text") });
    return words.onItsWay;
  };
  const sure = (given: FormData) => words.tellAllSure(`${given.get("text")}`);
  const form = action(words.tellAll, fields, tell, sure);
  return [make("h2", {}, words.announcement), form];
}
