/**
 * Frames to bytes or text and back, for both WebSocket variants.
 *
 * Owns the encoding alone. A frame is an object with one key, its kind: `{ publish: {...} }`. In
 * both variants it reads the same: every field is there with its default, bytes are `Uint8Array`,
 * an epoch is 16 hexadecimal digits. Fields and kinds that nobody knows are ignored (W-12).
 */

import { Field, MessageName, SCHEMA, UNKNOWN } from "./schema.js";

type Values = Record<string, any>;

/** What cannot be a frame: the connection is of no use any more. */
export class BadFrame extends Error {}

const NO_ID = "0".repeat(16);

// ---------------------------------------------------------------- JSON

/** A frame of the client as JSON. */
export const toJson = (frame: object): string =>
  JSON.stringify(jsonOf("ClientFrame", frame as Values));

/** A frame of the server from JSON. */
export function fromJson(text: string): Values {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new BadFrame("no JSON");
  }
  return ofJson("ServerFrame", parsed);
}

/** Exported for tests, which write what a server would. */
export function jsonOf(name: MessageName, from: Values): Values {
  const to: Values = {};
  for (const field of SCHEMA[name]) {
    const value = from[field.name];
    if (value === undefined) continue;
    const one = (value: unknown) =>
      field.message
        ? jsonOf(field.message, value as Values)
        : field.type === "bytes"
          ? toBase64(value as Uint8Array)
          : value;
    to[field.name] = field.list ? value.map(one) : one(value);
  }
  return to;
}

export function ofJson(name: MessageName, from: unknown): Values {
  if (typeof from !== "object" || from === null || Array.isArray(from)) {
    throw new BadFrame(`${name} is no object`);
  }
  const to: Values = {};
  for (const field of SCHEMA[name]) {
    const value = (from as Values)[field.name];
    if (value === undefined) {
      if (!field.optional) to[field.name] = defaultOf(field);
    } else if (field.list) {
      if (!Array.isArray(value)) throw new BadFrame(`${name}.${field.name} is no list`);
      to[field.name] = value.map((one) => oneOfJson(field, one));
    } else {
      to[field.name] = oneOfJson(field, value);
    }
  }
  return to;
}

function oneOfJson(field: Field, value: unknown): unknown {
  if (field.message) return ofJson(field.message, value);
  if (field.words) return field.words.includes(value as string) ? value : UNKNOWN;
  const is = { uint: "number", bool: "boolean", map: "object" }[field.type] ?? "string";
  if (typeof value !== is) throw new BadFrame(`${field.name} is no ${is}`);
  return field.type === "bytes" ? ofBase64(value as string) : value;
}

function defaultOf(field: Field): unknown {
  if (field.list) return [];
  if (field.words) return field.words[0];
  switch (field.type) {
    case "string":
      return "";
    case "bytes":
      return new Uint8Array();
    case "bool":
      return false;
    case "id":
      return NO_ID;
    case "map":
      return {};
    default:
      return 0;
  }
}

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function ofBase64(text: string): Uint8Array {
  let plain: string;
  try {
    plain = atob(text);
  } catch {
    throw new BadFrame("no base64");
  }
  return Uint8Array.from(plain, (c) => c.charCodeAt(0));
}

// ---------------------------------------------------------------- protobuf

/** A frame of the client as protobuf. */
export const toProto = (frame: object): Uint8Array => protoOf("ClientFrame", frame as Values);

/** A frame of the server from protobuf. */
export const fromProto = (bytes: Uint8Array): Values => ofProto("ServerFrame", bytes);

const utf8 = new TextEncoder();
const text = new TextDecoder();

/** How a value lies on the wire: after its number, or after its length. */
const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;

/** Exported for tests, which write what a server would. */
export function protoOf(name: MessageName, from: Values): Uint8Array {
  const out: number[] = [];
  for (const field of SCHEMA[name]) {
    const value = from[field.name];
    if (value === undefined) continue;
    if (field.type === "map") {
      for (const key of Object.keys(value).sort()) {
        const entry: number[] = [];
        sized(entry, 1, utf8.encode(key));
        sized(entry, 2, utf8.encode(value[key]));
        sized(out, field.no, entry);
      }
    } else if (field.list && field.type === "uint") {
      const packed: number[] = [];
      for (const one of value) varint(packed, one);
      if (packed.length > 0) sized(out, field.no, packed);
    } else if (field.list) {
      for (const one of value) write(out, field, one);
    } else if (field.optional || !isDefault(field, value)) {
      write(out, field, value);
    }
  }
  return Uint8Array.from(out);
}

function isDefault(field: Field, value: unknown): boolean {
  if (field.type === "bytes") return (value as Uint8Array).length === 0;
  return value === defaultOf(field);
}

function write(out: number[], field: Field, value: unknown): void {
  if (field.message) return sized(out, field.no, protoOf(field.message, value as Values));
  if (field.words) {
    tag(out, field.no, VARINT);
    return varint(out, Math.max(0, field.words.indexOf(value as string)));
  }
  switch (field.type) {
    case "string":
      return sized(out, field.no, utf8.encode(value as string));
    case "bytes":
      return sized(out, field.no, value as Uint8Array);
    case "id":
      tag(out, field.no, FIXED64);
      for (let at = 14; at >= 0; at -= 2)
        out.push(parseInt((value as string).slice(at, at + 2), 16));
      return;
    default:
      tag(out, field.no, VARINT);
      varint(out, Number(value));
  }
}

const tag = (out: number[], no: number, kind: number) => varint(out, no * 8 + kind);

function sized(out: number[], no: number, bytes: ArrayLike<number>): void {
  tag(out, no, LENGTH);
  varint(out, bytes.length);
  for (let at = 0; at < bytes.length; at += 1) out.push(bytes[at]);
}

/** Numbers of uproar stay below 2^53, beyond which they could not be told apart here. */
function varint(out: number[], value: number): void {
  while (value > 127) {
    out.push((value % 128) + 128);
    value = Math.floor(value / 128);
  }
  out.push(value);
}

export function ofProto(name: MessageName, bytes: Uint8Array): Values {
  const to: Values = {};
  for (const field of SCHEMA[name]) if (!field.optional) to[field.name] = defaultOf(field);
  const from = new Reader(bytes);
  while (!from.atEnd()) {
    const key = from.varint();
    const field = SCHEMA[name].find((field) => field.no === Math.floor(key / 8));
    readField(from, key % 8, field, to);
  }
  return to;
}

function readField(from: Reader, kind: number, field: Field | undefined, to: Values): void {
  const value = kind === VARINT ? from.varint() : from.bytes(sizeOf(from, kind));
  if (!field) return;
  if (field.type === "map") {
    const entry = { 1: "", 2: "" } as Record<number, string>;
    const inner = new Reader(value as Uint8Array);
    while (!inner.atEnd())
      entry[Math.floor(inner.varint() / 8)] = text.decode(inner.bytes(inner.varint()));
    to[field.name][entry[1]] = entry[2];
  } else if (field.list && field.type === "uint" && typeof value !== "number") {
    const packed = new Reader(value);
    while (!packed.atEnd()) to[field.name].push(packed.varint());
  } else if (field.list) {
    to[field.name].push(valueOf(field, value));
  } else {
    to[field.name] = valueOf(field, value);
  }
}

function sizeOf(from: Reader, kind: number): number {
  switch (kind) {
    case FIXED64:
      return 8;
    case LENGTH:
      return from.varint();
    case FIXED32:
      return 4;
    default:
      throw new BadFrame(`a field of kind ${kind}`);
  }
}

function valueOf(field: Field, value: number | Uint8Array): unknown {
  const isNumber = field.words !== undefined || field.type === "uint" || field.type === "bool";
  if (isNumber !== (typeof value === "number"))
    throw new BadFrame(`${field.name} is of another kind`);
  if (typeof value === "number") {
    if (field.words) return field.words[value] ?? UNKNOWN;
    return field.type === "bool" ? value !== 0 : value;
  }
  if (field.message) return ofProto(field.message, value);
  switch (field.type) {
    case "string":
      return text.decode(value);
    case "id":
      return Array.from(value, (byte) => byte.toString(16).padStart(2, "0"))
        .reverse()
        .join("");
    default:
      return value;
  }
}

class Reader {
  private at = 0;
  constructor(private readonly from: Uint8Array) {}

  atEnd(): boolean {
    return this.at >= this.from.length;
  }

  varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (this.atEnd() || factor > 2 ** 63) throw new BadFrame("a number without an end");
      const byte = this.from[this.at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  /** A copy: what it lay in may be large, and is let go. */
  bytes(length: number): Uint8Array {
    if (this.at + length > this.from.length) throw new BadFrame("a field beyond its end");
    this.at += length;
    return this.from.slice(this.at - length, this.at);
  }
}
