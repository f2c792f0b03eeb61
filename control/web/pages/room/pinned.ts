/** The pinned message above the chat: a line or two, and all of it for whoever asks. */

import { RoomMessage } from "../../sdk/index.js";

export class Pinned {
  private readonly user: HTMLElement;
  private readonly text: HTMLElement;

  constructor(private readonly button: HTMLButtonElement) {
    this.user = button.querySelector("b")!;
    this.text = button.querySelector("span")!;
    // By keyboard the focus alone shows all of it: see the style sheet.
    button.onclick = () => this.open(button.getAttribute("aria-expanded") !== "true");
    button.onblur = () => this.open(false);
  }

  /** What is pinned now. Data without a text is for other programs. */
  show(message: RoomMessage | undefined): void {
    const text = message?.text ?? "";
    this.button.hidden = text === "";
    this.user.textContent = message?.user ?? "";
    this.text.textContent = text;
    this.open(false);
  }

  private open(is: boolean): void {
    this.button.setAttribute("aria-expanded", `${is}`);
  }
}
