// Builds the tests and runs them: `node test/run.mjs [NAME...]`, all without a name.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const named = process.argv.slice(2);
const wanted = (name) => named.length === 0 || named.some((part) => name.startsWith(part));
const tests = readdirSync("test").filter((name) => name.endsWith(".test.ts") && wanted(name));
if (tests.length === 0) {
  console.error(`no test is called ${named.join(" or ")}`);
  process.exit(2);
}
const outdir = "node_modules/.tests";
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: tests.map((name) => `test/${name}`),
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node18",
  packages: "external",
  // Node 18 has it, but not as a global.
  banner: { js: 'import { webcrypto } from "node:crypto"; globalThis.crypto ??= webcrypto;' },
  sourcemap: "inline",
});
const files = tests.map((name) => `${outdir}/${name.replace(/ts$/, "mjs")}`);
const run = spawnSync(
  "node",
  ["--enable-source-maps", "--test-reporter=spec", "--test", ...files],
  { stdio: "inherit" },
);
process.exit(run.status ?? 1);
