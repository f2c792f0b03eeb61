/**
 * A short video for tests, recorded in Chromium: as it comes (MP4 in fragments), as HLS and FLV.
 * Owns how the one becomes the others; not a picture is coded anew.
 */

import { createServer } from "node:http";
import { Page } from "playwright-core";
import { ending, sleep } from "./server.js";

/** Records a canvas in a page for a while. */
export async function record(page: Page, ms = 3_000): Promise<Buffer> {
  const base64 = await page.evaluate(async (ms) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [320, 180];
    const brush = canvas.getContext("2d")!;
    const draw = setInterval(() => {
      brush.fillStyle = `hsl(${(performance.now() / 5) % 360} 80% 50%)`;
      brush.fillRect(0, 0, 320, 180);
    }, 20);
    const options = {
      mimeType: "video/mp4;codecs=avc1.42E01E",
      videoKeyFrameIntervalDuration: 500,
    };
    const recorder = new MediaRecorder(canvas.captureStream(25), options);
    const parts: Blob[] = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.start();
    await new Promise((resolve) => setTimeout(resolve, ms));
    await new Promise((resolve) => {
      recorder.onstop = resolve;
      recorder.stop();
    });
    clearInterval(draw);
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
  }, ms);
  return Buffer.from(base64, "base64");
}

interface Box {
  type: string;
  from: number;
  body: number;
  to: number;
}

function boxes(bytes: Buffer, from = 0, to = bytes.length): Box[] {
  const found: Box[] = [];
  for (let at = from; at + 8 <= to;) {
    const type = bytes.toString("latin1", at + 4, at + 8);
    const isLong = bytes.readUInt32BE(at) === 1;
    const size = isLong ? Number(bytes.readBigUInt64BE(at + 8)) : bytes.readUInt32BE(at);
    const end = size === 0 ? to : at + size;
    found.push({ type, from: at, body: at + (isLong ? 16 : 8), to: end });
    at = end;
  }
  return found;
}

/** Boxes along a path of types, from the outside in: the first of each. */
function inside(bytes: Buffer, [type, ...others]: string[], from = 0, to = bytes.length): Box {
  const box = boxes(bytes, from, to).find((one) => one.type === type)!;
  if (others.length === 0) return box;
  // A list of descriptions begins with their number, a picture's description with its own fields.
  const skip = { stsd: 8, avc1: 78 }[type] ?? 0;
  return inside(bytes, others, box.body + skip, box.to);
}

interface Fragment {
  bytes: Buffer;
  samples: { duration: number; bytes: Buffer }[];
}

/** What comes before the fragments, and they, each from a key frame on. */
function fragments(mp4: Buffer): { head: Buffer; timescale: number; parts: Fragment[] } {
  const all = boxes(mp4);
  const moofs = all.filter(({ type }) => type === "moof");
  const mdhd = inside(mp4, ["moov", "trak", "mdia", "mdhd"]);
  const timescale = mp4.readUInt32BE(mdhd.body + (mp4[mdhd.body] === 1 ? 20 : 12));
  const parts = moofs.map((moof) => {
    const mdat = all[all.indexOf(moof) + 1];
    const run = inside(mp4, ["traf", "trun"], moof.body, moof.to).body;
    if (mp4.readUInt32BE(run) !== 0x01000305) throw new Error("samples are listed in another way");
    let at = mdat.body;
    const samples = Array.from({ length: mp4.readUInt32BE(run + 4) }, (_, n) => {
      const entry = run + 16 + n * 8;
      const bytes = mp4.subarray(at, (at += mp4.readUInt32BE(entry + 4)));
      return { duration: mp4.readUInt32BE(entry), bytes };
    });
    return { bytes: mp4.subarray(moof.from, mdat.to), samples };
  });
  return { head: mp4.subarray(0, moofs[0].from), timescale, parts };
}

/** A playlist and its segments. */
export function hls(mp4: Buffer): [string, Buffer][] {
  const { head, timescale, parts } = fragments(mp4);
  const files: [string, Buffer][] = [["/head.mp4", head]];
  const lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-TARGETDURATION:2"];
  lines.push("#EXT-X-PLAYLIST-TYPE:VOD", '#EXT-X-MAP:URI="head.mp4"');
  parts.forEach(({ bytes, samples }, place) => {
    const long = samples.reduce((sum, { duration }) => sum + duration, 0) / timescale;
    lines.push(`#EXTINF:${long.toFixed(3)},`, `${place}.m4s`);
    files.push([`/${place}.m4s`, bytes]);
  });
  lines.push("#EXT-X-ENDLIST", "");
  return [...files, ["/video.m3u8", Buffer.from(lines.join("\n"))]];
}

/** The same pictures as FLV. */
export function flv(mp4: Buffer): Buffer {
  const { timescale, parts } = fragments(mp4);
  const path = ["moov", "trak", "mdia", "minf", "stbl", "stsd", "avc1", "avcC"];
  const { body, to } = inside(mp4, path);
  const tag = (time: number, isKey: boolean, kind: number, bytes: Buffer) => {
    const [head, size] = [Buffer.alloc(16), bytes.length + 5];
    head[0] = 9; // video
    head.writeUIntBE(size, 1, 3);
    const time_ms = Math.round((time * 1_000) / timescale);
    head.writeUIntBE(time_ms & 0xffffff, 4, 3);
    head[7] = time_ms >>> 24;
    head[11] = ((isKey ? 1 : 2) << 4) | 7; // AVC
    head[12] = kind;
    const tail = Buffer.alloc(4);
    tail.writeUInt32BE(11 + size);
    return Buffer.concat([head, bytes, tail]);
  };
  const tags = [Buffer.from("464c56010100000009" + "00000000", "hex")];
  tags.push(tag(0, true, 0, mp4.subarray(body, to)));
  let time = 0;
  for (const { samples } of parts) {
    samples.forEach(({ duration, bytes }, place) => {
      tags.push(tag(time, place === 0, 1, bytes));
      time += duration;
    });
  }
  return Buffer.concat(tags);
}

/** Serves files, as a CDN does, until the test ends; one of them late, where one is named. */
export async function host(
  files: [string, Buffer][],
  late: { path: string; ms: number } = { path: "", ms: 0 },
): Promise<string> {
  const byPath = new Map(files);
  const server = createServer(async (asked, answer) => {
    const { pathname } = new URL(asked.url!, "http://host");
    const file = byPath.get(pathname);
    if (pathname === late.path) await sleep(late.ms);
    const [, from, to] = asked.headers.range?.match(/bytes=(\d+)-(\d*)/) ?? [];
    const headers = { "access-control-allow-origin": "*", "accept-ranges": "bytes" };
    if (!file) return answer.writeHead(404, headers).end();
    if (from === undefined) return answer.writeHead(200, headers).end(file);
    const last = Math.min(to ? Number(to) : Infinity, file.length - 1);
    const range = `bytes ${from}-${last}/${file.length}`;
    answer.writeHead(206, { ...headers, "content-range": range });
    return answer.end(file.subarray(Number(from), last + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ending(server, (server) => server.close());
  ending(server, (server) => server.closeAllConnections());
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}
