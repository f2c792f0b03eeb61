/** A client of the SDK in Node, which ends with the test. */

import { WebSocket as Ws } from "ws";
import { Options, Uproar } from "../sdk/index.js";
import { ending } from "./server.js";

export function client(options: Options): Uproar {
  const live = new Uproar({ WebSocket: Ws as unknown as typeof WebSocket, ...options });
  return ending(live, (live) => live.close());
}
