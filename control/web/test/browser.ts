/** A real Chromium for a test. */

import { existsSync } from "node:fs";
import { Browser, chromium } from "playwright-core";
import { ending } from "./server.js";

const places = [process.env.UPROAR_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"];
const program = places.find((path) => path && existsSync(path));

/** One that ends with the test. */
export async function browser(): Promise<Browser> {
  if (!program) throw new Error("there is no Chromium; install it, or name it in UPROAR_CHROMIUM");
  const flags = ["--no-sandbox", "--disable-background-timer-throttling"];
  const launched = await chromium.launch({ executablePath: program, args: flags });
  return ending(launched, (one) => one.close());
}
