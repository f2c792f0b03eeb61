/** What plays: the operator's video, or a test pattern that needs no network. */

export function show(url: string, video: HTMLVideoElement, canvas: HTMLCanvasElement): void {
  if (url === "") return drawPattern(canvas);
  canvas.hidden = true;
  video.hidden = false;
  video.src = url;
  video.onerror = () => {
    // What cannot be played leaves a room that can be talked in.
    video.hidden = true;
    canvas.hidden = false;
    drawPattern(canvas);
  };
  void video.play().catch(() => (video.controls = true));
}

const BARS = ["#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0"];
/** Frames a second: the pattern shall cost nothing. */
const RATE = 4;

function drawPattern(canvas: HTMLCanvasElement): void {
  const brush = canvas.getContext("2d")!;
  canvas.width = 640;
  canvas.height = 360;
  const draw = () => {
    BARS.forEach((color, place) => {
      brush.fillStyle = color;
      brush.fillRect((place * 640) / 7, 0, 640 / 7 + 1, 270);
    });
    brush.fillStyle = "#111";
    brush.fillRect(0, 270, 640, 90);
    const now = new Date();
    brush.fillStyle = "#fff";
    brush.font = "600 34px ui-monospace, monospace";
    brush.textBaseline = "middle";
    brush.fillText(now.toLocaleTimeString("sv"), 24, 316);
    // A bar that runs through each second shows that the picture moves.
    brush.fillStyle = "#e0457b";
    brush.fillRect(220, 308, (396 * now.getMilliseconds()) / 1_000, 16);
  };
  draw();
  setInterval(() => document.hidden || draw(), 1_000 / RATE);
}
