/** What plays: the operator's video, or a test pattern that needs no network. */

const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];
/** Frames a second: the pattern shall cost nothing. */
const RATE = 4;

export class Screen {
  /** It is the video that plays, not the pattern. */
  isVideo = false;
  /** What the pattern shows: the time of day, or of a replay. */
  time = (): string => new Date().toLocaleTimeString("sv");

  constructor(
    url: string,
    private readonly video: HTMLVideoElement,
    private readonly canvas: HTMLCanvasElement,
  ) {
    if (url === "") {
      this.drawPattern();
      return;
    }
    this.isVideo = true;
    canvas.hidden = true;
    video.hidden = false;
    video.src = url;
    video.onerror = () => this.fail();
    void video.play().catch(() => (video.controls = true));
  }

  /** What cannot be played leaves a room that can be talked in. */
  private fail(): void {
    if (!this.isVideo) return;
    this.isVideo = false;
    this.video.hidden = true;
    this.canvas.hidden = false;
    this.drawPattern();
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
