/** Which figures the overview shows: of which metrics, in which unit. Owns the list, no element. */

import type { Words } from "./words.js";
import { Moment, quantile, rate, Scrape, sum, values } from "./metrics.js";

export interface Line {
  name: string;
  of(before: Moment, now: Moment): number | undefined;
}

export interface Chart {
  name: keyof Words["charts"];
  unit: string;
  /** Lines as the metrics have them now: by shard, by class. */
  lines(scrape: Scrape): Line[];
}

/** A figure of this moment alone: `key` is what /metrics calls it. */
export interface Tile {
  name: keyof Words["tiles"];
  key: string;
  unit: "" | "bytes";
  of(scrape: Scrape): number;
}

const total =
  (family: string): Tile["of"] =>
  (scrape) =>
    sum(scrape, family);

export const TILES: Tile[] = [
  ["connections", "uproar_connections", ""],
  ["connectionsMax", "uproar_connections_max", ""],
  ["members", "uproar_members", ""],
  ["rooms", "uproar_rooms", ""],
  ["inboxes", "uproar_inboxes", ""],
  ["lagging", "uproar_lagging", ""],
  ["lost", "uproar_queue_dropped_total", ""],
  ["memory", "process_resident_memory_bytes", "bytes"],
].map(([name, key, unit]) => ({
  name: name as Tile["name"],
  key,
  unit: unit as Tile["unit"],
  of: total(key),
}));

const SHARD = "uproar_connections";

/** One line for each value of a label. */
function by(
  family: string,
  name: string,
  of: (where: Record<string, string>) => Line["of"],
  where: Record<string, string> = {},
): Chart["lines"] {
  return (scrape) =>
    values(scrape, family, name).map((value) => ({
      name: name === "shard" ? `shard ${value}` : value,
      of: of({ [name]: value, ...where }),
    }));
}

const quantiles =
  (family: string): Chart["lines"] =>
  () =>
    [0.5, 0.99].map((of) => ({
      name: `p${of * 100}`,
      of: (before, now) => {
        const value = quantile(before, now, family, of);
        return value === undefined ? undefined : value * 1_000;
      },
    }));

export const CHARTS: Chart[] = [
  {
    name: "connections",
    unit: "",
    lines: by(SHARD, "shard", (where) => (_, now) => sum(now.scrape, SHARD, where)),
  },
  {
    name: "deliveries",
    unit: "/s",
    lines: by(
      "uproar_deliveries_total",
      "what",
      (where) => (before, now) => rate(before, now, "uproar_deliveries_total", where),
    ),
  },
  {
    name: "writes",
    unit: "/s",
    lines: by(
      "uproar_socket_writes_total",
      "shard",
      (where) => (before, now) => rate(before, now, "uproar_socket_writes_total", where),
    ),
  },
  {
    name: "shed",
    unit: "/s",
    lines: by(
      "uproar_messages_total",
      "class",
      (where) => (before, now) => rate(before, now, "uproar_messages_total", where),
      { outcome: "shed" },
    ),
  },
  { name: "sweep", unit: "ms", lines: quantiles("uproar_sweep_cpu_seconds") },
  { name: "window", unit: "ms", lines: quantiles("uproar_batch_window_seconds") },
  {
    name: "lagging",
    unit: "",
    lines: by(
      "uproar_lagging",
      "shard",
      (where) => (_, now) => sum(now.scrape, "uproar_lagging", where),
    ),
  },
  {
    name: "cpu",
    unit: "%",
    lines: by(
      "uproar_shard_cpu_seconds_total",
      "shard",
      (where) => (before, now) => 100 * rate(before, now, "uproar_shard_cpu_seconds_total", where),
    ),
  },
  {
    name: "memory",
    unit: "bytes",
    lines: by(
      "uproar_shard_user_bytes",
      "shard",
      (where) => (_, now) => sum(now.scrape, "uproar_shard_user_bytes", where),
    ),
  },
];

/** A number as a person reads it, and as little of it as tells. */
export function shown(value: number | undefined, unit: string): string {
  if (value === undefined) return "–";
  if (unit === "bytes") {
    const power = Math.min(4, Math.floor(Math.log(Math.max(value, 1)) / Math.log(1024)));
    const digits = power === 0 ? 0 : 1;
    return `${(value / 1024 ** power).toFixed(digits)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
  }
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : 1;
  const text = value.toLocaleString("en", { maximumFractionDigits: digits });
  return unit === "" ? text : `${text} ${unit}`;
}
