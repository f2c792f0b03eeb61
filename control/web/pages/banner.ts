/** What the connection does, as a banner where it does not stand. Decides nothing itself. */

import { State } from "../sdk/index.js";

/** What it says, in the page's language. */
export interface BannerWords {
  connecting: string;
  waiting: (seconds: number) => string;
  now: string;
  closed: (why: string) => string;
  retry: string;
}

/** What its button does, and why a connection ended in words. */
export interface BannerHost {
  reconnect(): void;
  connect(): void;
  reason(code: number, text: string): string;
}

let ticking: ReturnType<typeof setInterval> | undefined;

/** Shows a state of the connection in the element `banner` of the page. */
export function showState(state: State, words: BannerWords, host: BannerHost): void {
  clearInterval(ticking);
  const banner = document.getElementById("banner")!;
  const [text, again] = [banner.querySelector("span")!, banner.querySelector("button")!];
  document.body.dataset.state = state.is;
  banner.hidden = state.is === "online";
  again.hidden = state.is === "connecting";
  switch (state.is) {
    case "online":
      return;
    case "connecting":
      text.textContent = words.connecting;
      return;
    case "waiting": {
      const left = () => Math.max(0, Math.ceil((state.retryAt_ms - Date.now()) / 1_000));
      text.textContent = words.waiting(left());
      ticking = setInterval(() => (text.textContent = words.waiting(left())), 500);
      again.textContent = words.now;
      again.onclick = () => host.reconnect();
      return;
    }
    case "closed":
      text.textContent = words.closed(host.reason(state.why?.code ?? 0, state.why?.text ?? ""));
      again.textContent = words.retry;
      again.onclick = () => host.connect();
  }
}
