// Measures the room page: `node test/measure.mjs HTTP MINUTES`, while a crowd is in the room that
// uproar-loadgen fills. Prints what the page says of itself, as JSON. Started by scripts/bench-page.
import { launch } from "./chromium.mjs";

const [http, minutes, room] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1280, height: 720 } });
const errors = [];
page.on("pageerror", (error) => errors.push(error.message));
await page.goto(`${http}/?room=${room}`);
await page.waitForSelector('body[data-state="online"]');
const devtools = await page.context().newCDPSession(page);

/** Bytes in use once what is not has been let go. */
async function heap() {
  await devtools.send("HeapProfiler.collectGarbage");
  return (await devtools.send("Runtime.getHeapUsage")).usedSize;
}

/** From the key to the line, in the page's own time. */
async function ownLine(text) {
  return page.evaluate(async (text) => {
    const began = performance.now();
    document.querySelector("#text").value = text;
    document.querySelector("#say").requestSubmit();
    while (!document.querySelector("#lines").textContent.includes(text)) {
      await new Promise((next) => requestAnimationFrame(next));
    }
    return performance.now() - began;
  }, text);
}

const samples = [];
const waits = [];
await page.waitForTimeout(30_000); // until the crowd is in and the page is warm
const end = Date.now() + minutes * 60_000;
for (let number = 0; Date.now() < end; number += 1) {
  waits.push(await ownLine(`own line ${number}`));
  await page.waitForTimeout(14_000);
  const { fps, flying, crowded } = await page.evaluate("figures()");
  samples.push({ fps, flying, crowded, heap: await heap() });
}
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)];
const viewers = await page.textContent("#viewers");
const local = await page.$$eval("#lines .local", (all) => all.length);
await browser.close();
const mib = (bytes) => Number((bytes / 1_048_576).toFixed(1));
console.log(
  JSON.stringify(
    {
      viewers,
      fps_median: Number(median(samples.map((one) => one.fps)).toFixed(1)),
      fps_least: Number(Math.min(...samples.map((one) => one.fps)).toFixed(1)),
      heap_mib_first: mib(samples[0].heap),
      heap_mib_last: mib(samples.at(-1).heap),
      heap_mib_most: mib(Math.max(...samples.map((one) => one.heap))),
      own_line_ms_median: Number(median(waits).toFixed(1)),
      own_line_ms_most: Number(Math.max(...waits).toFixed(1)),
      own_lines: waits.length,
      shed_lines_in_the_list_at_the_end: local,
      lines_without_a_track: samples.at(-1).crowded,
      errors,
    },
    null,
    2,
  ),
);
