/** Quality of streams: a heat map of CDN by ISP, and what is wrong. Owns what it shows of them. */

import { ask } from "./api.js";
import { choice, make } from "../elements.js";
import { words } from "./words.js";

interface Heatmap {
  metric: string;
  cdns: string[];
  isps: string[];
  /** By row, then by column; null: nothing was reported. */
  values: (number | null)[][];
}

interface Alarm {
  rule: string;
  state: "raised" | "cleared";
  cell: Record<string, string>;
  value: number;
  line: number;
  samples: number;
  raised_ms: number;
  cleared_ms: number;
}

/** What a map may be of, as the interface calls it, and the value that is as hot as can be. */
const HOT: Record<keyof typeof words.metrics, number> = {
  stall_ratio: 0.03,
  start_failure_ratio: 0.05,
  exit_before_start_ratio: 0.2,
  frame_drop_ratio: 0.05,
  msd: 5_000,
  ltc: 5_000,
  rtt: 500,
};
/** How far back with windows of this width, in milliseconds. */
const SPAN_MS: Record<keyof typeof words.spans, number> = {
  "10s": 300_000,
  "1m": 3_600_000,
  "1h": 86_400_000,
};
/** Rows and columns that are drawn; the hottest ones. */
const SHOWN = 30;
/** Alarms that were cleared lately. */
const CLEARED_SHOWN = 20;

/** Draws the view once; what it shows comes anew with each call of what it returns. */
export function openQuality(place: HTMLElement): () => Promise<void> {
  const metric = choice(words.metricOf, "metric", words.metrics);
  const span = choice(words.spanOver, "span", words.spans);
  const map = make("div", { className: "heatmap" });
  const alarms = make("ul", { className: "alarms" });
  place.replaceChildren(
    make("h2", {}, words.alarms),
    alarms,
    make("h2", {}, words.heatmap),
    make(
      "p",
      {},
      make("label", {}, `${words.metricOf} `, metric),
      " ",
      make("label", {}, `${words.spanOver} `, span),
    ),
    map,
  );
  const look = async () => {
    const name = metric.value as keyof typeof HOT;
    const step = span.value as keyof typeof SPAN_MS;
    const from_ms = Date.now() - SPAN_MS[step];
    const query = `metric=${name}&step=${step}&from_unix_ms=${from_ms}`;
    const [heatmap, told] = await Promise.all([
      ask("GET", `/v1/quality/heatmap?${query}`),
      ask("GET", "/v1/quality/alarms"),
    ]);
    map.replaceChildren(drawMap(heatmap as Heatmap, HOT[name]));
    alarms.replaceChildren(...drawAlarms(told as { raised: Alarm[]; cleared: Alarm[] }));
  };
  metric.onchange = span.onchange = () => void look().catch(() => {}); // the next look tells
  return look;
}

function drawMap({ metric, cdns, isps, values }: Heatmap, hot: number): HTMLElement {
  if (cdns.length === 0) return make("p", {}, words.noReports);
  const worst = (all: (number | null)[]) => Math.max(-1, ...all.map((value) => value ?? -1));
  const rows = hottest(values.map(worst));
  const columns = hottest(isps.map((_, column) => worst(values.map((row) => row[column]))));
  const head = make("tr", {}, make("th", {}, "CDN"), ...columns.map((at) => header(isps[at])));
  const body = rows.map((row) => {
    const cells = columns.map((column) => cell(metric, values[row][column], hot));
    return make("tr", {}, header(cdns[row]), ...cells);
  });
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  const hidden = cdns.length - rows.length + isps.length - columns.length;
  const note = hidden > 0 ? words.worstShown(SHOWN, hidden) : "";
  return make("div", {}, table, make("p", {}, note));
}

const header = (name: string) => make("th", {}, name || words.notKnown);

/** The places of the largest values, in the order in which they stand. */
function hottest(values: number[]): number[] {
  const places = values.map((_, place) => place);
  const first = places.sort((a, b) => values[b] - values[a]).slice(0, SHOWN);
  return first.sort((a, b) => a - b);
}

function cell(metric: string, value: number | null, hot: number): HTMLElement {
  const element = make("td", { className: "number" }, value === null ? "" : told(metric, value));
  // A color is told by CSS; how much of it there is, by the value.
  if (value !== null) element.style.setProperty("--heat", `${heatOf(value, hot)}%`);
  return element;
}

/** How hot a value is, 0 to 100: at what raises an alarm it is all red. */
export function heatOf(value: number, hot: number): number {
  return Math.round(100 * Math.min(1, value / hot));
}

/** A value as a person reads it. */
export function told(metric: string, value: number): string {
  if (metric.endsWith("_ratio")) return `${(100 * value).toFixed(1)} %`;
  return `${Math.round(value).toLocaleString("en")} ms`;
}

function drawAlarms({ raised, cleared }: { raised: Alarm[]; cleared: Alarm[] }): HTMLElement[] {
  const shown = [...raised, ...cleared.slice(-CLEARED_SHOWN).reverse()];
  if (shown.length === 0) return [make("li", {}, words.noAlarms)];
  return shown.map((alarm) => {
    const metric = alarm.rule === "start_p95_ms" ? "msd" : alarm.rule;
    const where = Object.entries(alarm.cell).map(
      ([key, value]) => `${key} ${value || words.notKnown}`,
    );
    const since = new Date(alarm.raised_ms).toLocaleTimeString("sv");
    const to = alarm.cleared_ms > 0 ? new Date(alarm.cleared_ms).toLocaleTimeString("sv") : "";
    const [value, line] = [told(metric, alarm.value), told(metric, alarm.line)];
    const text = words.alarm(alarm.rule, where.join(", "), value, line, since, to);
    return make("li", { className: alarm.state }, text);
  });
}
