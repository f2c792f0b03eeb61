/** Who wants to be told of what. Owns the listeners; an error in one of them stops no other. */

export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<(about: never) => void>>();

  /** Calls `listener` at every such event, until the function that is returned is called. */
  on<Name extends keyof Events>(name: Name, listener: (about: Events[Name]) => void): () => void {
    const all = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, all);
    all.add(listener);
    return () => all.delete(listener);
  }

  /** Calls `listener` at the next one alone. */
  once<Name extends keyof Events>(name: Name, listener: (about: Events[Name]) => void): () => void {
    const off = this.on(name, (about) => {
      off();
      listener(about);
    });
    return off;
  }

  protected emit<Name extends keyof Events>(name: Name, about: Events[Name]): void {
    for (const listener of [...(this.listeners.get(name) ?? [])]) {
      try {
        (listener as (about: Events[Name]) => void)(about);
      } catch (error) {
        // It is the page's own: told where such errors are told, and the client goes on.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
