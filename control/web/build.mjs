// Builds what the server embeds: `node build.mjs` writes dist/, `node build.mjs --check` only says
// whether dist/ is what the sources give.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  write: false,
  logLevel: "warning",
};

/** File of dist/: its content. */
const made = new Map();

const bundle = async (name, entry, banner = "") => {
  const options = { ...common, entryPoints: [entry] };
  const { outputFiles } = await build(banner ? { ...options, banner: { js: banner } } : options);
  made.set(name, outputFiles[0].text);
};

/** A bundle of somebody else's work says so. */
const player = async (name, from) => {
  const read = (file) => readFileSync(`node_modules/${from}/${file}`, "utf8");
  const { version, license } = JSON.parse(read("package.json"));
  const banner = `/*! ${from} ${version}, ${license}: see control/web/THIRD_PARTY.md */`;
  await bundle(`${name}.js`, `pages/players/${name}.ts`, banner);
};

await bundle("uproar.js", "sdk/index.ts");
await bundle("room.js", "pages/room/main.ts");
await bundle("room.css", "pages/room/room.css");
await player("hls", "hls.js");
await player("mpegts", "mpegts.js");
await bundle("chat.js", "pages/chat/main.ts");
await bundle("chat.css", "pages/chat/chat.css");
await bundle("admin.js", "pages/admin/main.ts");
await bundle("admin.css", "pages/admin/admin.css");
const types = "node_modules/.types.d.ts";
execFileSync(
  "node_modules/.bin/dts-bundle-generator",
  ["--no-check", "--no-banner", "--silent", "-o", types, "sdk/index.ts"],
  { stdio: ["ignore", "ignore", "inherit"] },
);
made.set("uproar.d.ts", readFileSync(types, "utf8"));
made.set("room.html", readFileSync("pages/room/index.html", "utf8"));
made.set("chat.html", readFileSync("pages/chat/index.html", "utf8"));
made.set("admin.html", readFileSync("pages/admin/index.html", "utf8"));
made.set("icon.svg", readFileSync("pages/icon.svg", "utf8"));

if (process.argv.includes("--check")) {
  const old = (name) => {
    try {
      return readFileSync(`dist/${name}`, "utf8");
    } catch {
      return undefined;
    }
  };
  const stale = [...made].filter(([name, text]) => old(name) !== text).map(([name]) => name);
  stale.push(...readdirSync("dist").filter((name) => !made.has(name)));
  if (stale.length > 0) {
    console.error(`control/web/dist is not what its sources give: ${stale.join(", ")}`);
    console.error("run scripts/web, and commit what it writes");
    process.exit(1);
  }
  console.log(`dist is what its sources give: ${made.size} files`);
} else {
  rmSync("dist", { recursive: true, force: true });
  mkdirSync("dist");
  for (const [name, text] of made) {
    writeFileSync(`dist/${name}`, text);
    console.log(`dist/${name}: ${Buffer.byteLength(text)} bytes`);
  }
}
