/** A client of the SDK in Node, which ends with the test. */

import { WebSocket as Ws } from "ws";
import { Options, Uproar } from "../sdk/index.js";
import { ending } from "./server.js";

export function client(options: Options): Uproar {
  const live = new Uproar({ WebSocket: Ws as unknown as typeof WebSocket, ...options });
  return ending(live, (live) => live.close());
}

/** One that comes from this address of the loopback network. */
export function clientFrom(localAddress: string, options: Options): Uproar {
  class From extends Ws {
    constructor(url: string, protocol: string) {
      super(url, protocol, { localAddress });
    }
  }
  return client({ ...options, WebSocket: From as unknown as typeof WebSocket });
}
