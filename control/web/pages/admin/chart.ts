/** One chart: lines over the last minutes, and what they are now beside their names. */

import { Chart, shown } from "./figures.js";
import { History } from "./metrics.js";
import { words } from "./words.js";

const COLORS = ["#e0457b", "#3b82f6", "#10b981", "#f59e0b", "#8b5cf6", "#06b6d4", "#84cc16"];
const HEIGHT = 140;
/** A chart that has just begun is as wide as this. */
const SPAN_MIN_MS = 60_000;

export class ChartView {
  readonly element = document.createElement("figure");
  private readonly canvas = document.createElement("canvas");
  private readonly legend = document.createElement("ul");
  private readonly top = document.createElement("span");

  constructor(private readonly chart: Chart) {
    const title = document.createElement("figcaption");
    title.textContent = words.charts[chart.name];
    this.top.className = "top";
    this.element.append(title, this.top, this.canvas, this.legend);
  }

  draw(history: History): void {
    const last = history.last;
    if (!last) return;
    const span_ms = Math.max(last.at_ms - history.moments[0].at_ms, SPAN_MIN_MS);
    const lines = this.chart.lines(last.scrape).map((line) => ({
      name: line.name,
      points: history.pairs((before, now) => line.of(before, now)),
    }));
    const all = lines.flatMap((line) => line.points.map(([, value]) => value ?? 0));
    const max = Math.max(...all, 1e-9);
    this.top.textContent = all.length > 0 ? shown(max === 1e-9 ? 0 : max, this.chart.unit) : "";
    const scale = Math.min(devicePixelRatio || 1, 2);
    const width = this.canvas.clientWidth || 300;
    this.canvas.width = width * scale;
    this.canvas.height = HEIGHT * scale;
    const brush = this.canvas.getContext("2d")!;
    brush.scale(scale, scale);
    brush.lineWidth = 1.5;
    lines.forEach(({ points }, place) => {
      brush.strokeStyle = COLORS[place % COLORS.length];
      brush.beginPath();
      let open = false;
      for (const [at_ms, value] of points) {
        if (value === undefined) {
          open = false;
          continue;
        }
        const x = width - ((last.at_ms - at_ms) * width) / span_ms;
        const y = HEIGHT - 4 - ((HEIGHT - 8) * value) / max;
        if (open) brush.lineTo(x, y);
        else brush.moveTo(x, y);
        open = true;
      }
      brush.stroke();
    });
    this.legend.replaceChildren(
      ...lines.map(({ name, points }, place) => {
        const item = document.createElement("li");
        item.style.setProperty("--color", COLORS[place % COLORS.length]);
        const now = document.createElement("b");
        now.textContent = shown(points.at(-1)?.[1], this.chart.unit);
        item.append(name, " ", now);
        return item;
      }),
    );
  }
}
