/** Where the server says clients connect: by the page's own host name where that is no address. */
export async function addresses(): Promise<string[]> {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const answer = await fetch("/v1/connect");
  if (!answer.ok) throw new Error(`${answer.status}`);
  const { addresses } = (await answer.json()) as { addresses: string[] };
  if (addresses.length === 0) throw new Error("no node");
  return addresses.map((address) =>
    address.includes("://")
      ? address
      : `${scheme}://${address.replace(/^(0\.0\.0\.0|\[::\])/, location.hostname)}`,
  );
}
