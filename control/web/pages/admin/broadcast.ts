/** A word to every connection that is in a room, after a second thought. */

import { ask } from "./api.js";
import { action, field, make } from "../elements.js";

export function broadcast(): HTMLElement[] {
  const fields = [
    field("as", "user", { value: "uproar", required: true }),
    field("text", "text", { required: true }),
  ];
  const form = action("Tell everybody", fields, async (given) => {
    const text = `${given.get("text")}`;
    if (!confirm(`Tell everybody who is in a room, on every node?\n\n${text}`)) return "";
    await ask("POST", "/v1/broadcast", { user: given.get("user"), text });
    return "it is on its way";
  });
  return [make("h2", {}, "Announcement"), form];
}
