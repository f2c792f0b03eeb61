/** What plays: the operator's video, or a test pattern that needs no network. */

import { Playing } from "../../sdk/index.js";
import { attachBy, Way, waysOf } from "./ways.js";

const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];
/** Frames a second: the pattern shall cost nothing. */
const RATE = 4;

export class Screen {
  /** How the video plays; `undefined`: it is the pattern. */
  way?: Way;
  /** What the pattern shows: the time of day, or of a replay. */
  time = (): string => new Date().toLocaleTimeString("sv");

  constructor(
    private readonly url: string,
    private readonly video: HTMLVideoElement,
    private readonly canvas: HTMLCanvasElement,
    private readonly measured?: Playing,
  ) {
    const ways = url === "" ? [] : waysOf(url, (type) => video.canPlayType(type) !== "");
    void this.start(ways);
  }

  get isVideo(): boolean {
    return this.way !== undefined;
  }

  /** Plays by the first way that goes. What cannot be played leaves a room to talk in. */
  private async start(ways: Way[]): Promise<void> {
    const [way, ...others] = ways;
    this.way = way;
    this.video.hidden = way === undefined;
    this.canvas.hidden = way !== undefined;
    if (way === undefined) {
      if (this.url !== "") this.measured?.failed();
      return this.drawPattern();
    }
    let hasFailed = false;
    const failed = () => {
      if (hasFailed) return;
      hasFailed = true;
      end?.();
      void this.start(others);
    };
    let end: (() => void) | undefined;
    try {
      end = await attachBy(way)(this.video, this.url, failed);
      await this.video.play();
    } catch (error) {
      // A browser that wants a click first has nothing against the video itself.
      if ((error as Error).name === "NotAllowedError") {
        this.video.controls = true;
        this.measured?.blocked();
      } else if ((error as Error).name !== "AbortError") failed();
    }
  }

  private drawPattern(): void {
    const brush = this.canvas.getContext("2d")!;
    this.canvas.width = 640;
    this.canvas.height = 360;
    const draw = () => {
      BARS.forEach((color, place) => {
        brush.fillStyle = color;
        brush.fillRect((place * 640) / 7, 0, 640 / 7 + 1, 270);
      });
      brush.fillStyle = "#111";
      brush.fillRect(0, 270, 640, 90);
      brush.fillStyle = "#fff";
      brush.font = "600 34px ui-monospace, monospace";
      brush.textBaseline = "middle";
      brush.fillText(this.time(), 24, 316);
      // A bar that runs through each second shows that the picture moves.
      brush.fillStyle = "#e0457b";
      brush.fillRect(220, 308, (396 * new Date().getMilliseconds()) / 1_000, 16);
    };
    draw();
    setInterval(() => document.hidden || draw(), 1_000 / RATE);
  }
}
