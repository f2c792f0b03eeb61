/** What a message says in one line of text. */

import { StoredMessage } from "../../sdk/index.js";
import { words } from "./words.js";

/** `named`: with who said it, as a list of groups shows it. */
export function lineOf(message: StoredMessage, named: boolean): string {
  const { user, notice } = message;
  if (notice) {
    const users = notice.users.join(", ") + (notice.more > 0 ? ` +${notice.more}` : "");
    return words.notice(notice.what, user, users, notice.text);
  }
  const text = message.gone ? words.recalled : message.text || message.file?.name || words.file;
  return named ? `${user}: ${text}` : text;
}
