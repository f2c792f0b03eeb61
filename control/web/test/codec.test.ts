/** The codecs against the protocol's own vectors, and the schema against its source. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { BadFrame, fromJson, fromProto, jsonOf, ofJson, ofProto, protoOf } from "../sdk/codec.js";
import { MessageName, SCHEMA } from "../sdk/schema.js";
import { repository } from "./places.js";

interface Vector {
  of: MessageName;
  json: object;
  hex: string;
}

/** Pairs of a frame in JSON and in protobuf. */
function vectors(): Vector[] {
  const found: Vector[] = [];
  for (const [file, of] of [
    ["client", "ClientFrame"],
    ["server", "ServerFrame"],
  ] as const) {
    const text = readFileSync(`${repository}/proto/tests/vectors/${file}.txt`, "utf8");
    for (const [, json, hex] of text.matchAll(/^json (.*)\nhex (.*)$/gm)) {
      found.push({ of, json: JSON.parse(json), hex });
    }
  }
  const protocol = readFileSync(`${repository}/proto/PROTOCOL.md`, "utf8");
  const [fromClient, fromServer] = protocol.split("### From the server");
  for (const [text, of] of [
    [fromClient, "ClientFrame"],
    [fromServer, "ServerFrame"],
  ] as const) {
    for (const [, json, hex] of text.matchAll(/```json\n(.*)\n```\n```hex\n([^`]*)```/g)) {
      found.push({ of, json: JSON.parse(json), hex });
    }
  }
  return found;
}

const bytes = (hex: string) => Uint8Array.from(hex.trim().split(/\s+/), (two) => parseInt(two, 16));

test("both forms of every vector read as the same frame, and are written as they were", () => {
  const all = vectors();
  assert.ok(all.length > 80, `${all.length} vectors are found`);
  for (const { of, json, hex } of all) {
    const read = ofJson(of, json);
    assert.deepEqual(ofProto(of, bytes(hex)), read, hex);
    assert.deepEqual(protoOf(of, read), bytes(hex), JSON.stringify(json));
    // What has its default may be there or not: the same frame comes out.
    assert.deepEqual(ofJson(of, jsonOf(of, read)), read);
  }
});

test("the schema is that of the .proto files, field by field", () => {
  const files = ["uproar", "danmaku", "quality"].map((name) => `proto/uproar/v1/${name}.proto`);
  const source = files.map((file) => readFileSync(`${repository}/${file}`, "utf8")).join("\n");
  const messages = [...source.matchAll(/^message (\w+) \{\n([^]*?)^\}|^message (\w+) \{\}/gm)];
  const names = messages.map(([, name, , empty]) => name ?? empty);
  assert.deepEqual(names.sort(), Object.keys(SCHEMA).sort());
  const kinds: Record<string, string> = { uint64: "uint", uint32: "uint", fixed64: "id" };
  for (const [, name, body = ""] of messages) {
    if (!name) continue;
    const inOneof = body.match(/oneof content \{([^]*?)\}/)?.[1] ?? "";
    const lines = /^ *(repeated |optional )?(map<string, string>|\w+) (\w+) = (\d+);/gm;
    const fields = [...body.matchAll(lines)].map(([line, label, type, field, no]) => {
      const kind = type.startsWith("map") ? "map" : (kinds[type] ?? type);
      const absent = label === "optional " || inOneof.includes(line);
      return [Number(no), field, kind, label === "repeated ", absent];
    });
    const ours = SCHEMA[name as MessageName].map((field) => {
      const absent = field.optional && field.message === undefined;
      return [field.no, field.name, field.type, field.list, absent];
    });
    assert.deepEqual(ours, fields, name);
  }
});

test("what nobody knows is ignored", () => {
  assert.deepEqual(fromJson('{"pong":{"later":1}}'), { pong: {} });
  assert.deepEqual(fromJson('{"tomorrow":{}}'), {});
  // Field 900 of a frame, then a pong with a field 15 of eight bytes.
  const unknown = [0xa2, 0x38, 0x01, 0x07, 0x4a, 0x09, 0x79, 1, 2, 3, 4, 5, 6, 7, 8];
  assert.deepEqual(fromProto(Uint8Array.from(unknown)), { pong: {} });
  const message = ofProto("Message", Uint8Array.from([0x10, 0x63]));
  assert.equal(message.class, "unknown");
  assert.equal(ofJson("Message", { class: "shout" }).class, "unknown");
});

test("what is no frame is refused, wherever it is cut", () => {
  for (const { of, hex } of vectors()) {
    const whole = bytes(hex);
    for (let length = 0; length < whole.length; length += 1) {
      try {
        ofProto(of, whole.slice(0, length));
      } catch (error) {
        assert.ok(error instanceof BadFrame, `${hex} cut at ${length}: ${error}`);
      }
    }
  }
  for (const text of ["", "[]", "null", '{"joined":[]}', '{"joined":{"seq":"1"}}', "{"]) {
    assert.throws(() => fromJson(text), BadFrame, text);
  }
  for (const wrong of [[0x0b], [0x4a, 0xff], [0x3a, 0x02, 0x0a, 0x00], [0x48, 0x01]]) {
    assert.throws(() => fromProto(Uint8Array.from(wrong)), BadFrame, wrong.join());
  }
});
