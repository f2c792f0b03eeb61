/** Requests of an operator's browser: its cookie goes with them. */

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

export async function ask(method: string, path: string, body?: object): Promise<any> {
  const headers: Record<string, string> = body ? { "content-type": "application/json" } : {};
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  const isJson = answer.headers.get("content-type")?.startsWith("application/json");
  const read = isJson && text !== "" ? JSON.parse(text) : text;
  if (answer.ok) return read;
  throw new Refused(answer.status, read.error?.text ?? `${answer.status} ${answer.statusText}`);
}
