// A headless Chromium, for programs that measure or show the pages of a running server.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const places = [process.env.UPROAR_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"];

export function launch() {
  const executablePath = places.find((path) => path && existsSync(path));
  return chromium.launch({ executablePath, args: ["--no-sandbox"] });
}
