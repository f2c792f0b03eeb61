/** Play and pause, seek, speed: of whatever clock there is. Owns its elements. */

import { Clock } from "./clock.js";
import { words } from "./words.js";

const SPEEDS = [0.5, 1, 1.5, 2];
/** How far an arrow key goes. */
const STEP_MS = 5_000;
const EVERY_MS = 200;

export class Controls {
  private readonly play: HTMLButtonElement;
  private readonly seek: HTMLInputElement;
  private readonly speed: HTMLSelectElement;
  private readonly told: HTMLOutputElement;

  /** `place` has the elements; `moved` is told when it plays, or does not. */
  constructor(
    place: HTMLElement,
    private readonly clock: () => Clock,
    private readonly moved: (playing: boolean) => void,
  ) {
    [this.play, this.seek, this.speed, this.told] = ["button", "input", "select", "output"].map(
      (name) => place.querySelector(name)!,
    ) as [HTMLButtonElement, HTMLInputElement, HTMLSelectElement, HTMLOutputElement];
    for (const speed of SPEEDS) this.speed.append(new Option(`${speed}×`, `${speed}`));
    this.speed.value = "1";
    this.play.onclick = () => this.toggle();
    this.seek.oninput = () => this.clock().seek(Number(this.seek.value));
    this.speed.onchange = () => this.clock().setSpeed(Number(this.speed.value));
    place.hidden = false;
    setInterval(() => this.draw(), EVERY_MS);
    this.draw();
  }

  toggle(): void {
    if (this.clock().playing) this.clock().pause();
    else this.clock().play();
    this.draw();
  }

  /** So many steps forward, or back. */
  step(steps: number): void {
    this.clock().seek(this.clock().at_ms + steps * STEP_MS);
  }

  private draw(): void {
    const { at_ms, length_ms, playing } = this.clock();
    this.play.textContent = playing ? "⏸" : "▶";
    this.play.setAttribute("aria-label", playing ? words.pause : words.play);
    this.seek.max = `${length_ms}`;
    this.seek.value = `${at_ms}`;
    this.told.textContent = `${timeOf(at_ms)} / ${timeOf(length_ms)}`;
    this.moved(playing);
  }
}

/** As `1:02:03`, or `2:03`. */
export function timeOf(ms: number): string {
  const seconds = Math.floor(ms / 1_000);
  const two = (number: number) => `${number % 60}`.padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}
