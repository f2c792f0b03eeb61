/** Where things are, for the tests. */

/** The repository: tests run from control/web. */
export const repository = process.env.UPROAR_REPOSITORY ?? "../..";

/** The server that is tested. */
export const server = process.env.UPROAR_BIN ?? `${repository}/target/debug/uproar`;
