// Asks the server as a platform's backend does, with the key in API_KEY. For programs that measure or
// show a running server.

/** `ask(METHOD, PATH, BODY)` of the server at `http`: its answer; an error where it is none. */
export function backend(http) {
  return async (method, path, body) => {
    const authorization = `Bearer ${process.env.API_KEY}`;
    const headers = { "content-type": "application/json", authorization };
    const answer = await fetch(http + path, { method, headers, body: JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text && JSON.parse(text);
  };
}
