// What the machine writes on its way to the page: gathered, so that a flood is a message a screen and not one a byte, and counted until the page
// says that it has shown it. That is flow control as of a serial line: who writes faster than can be read is made to wait, and nothing is lost.

/** A batch waits no longer than a screen is shown. */
const BATCH_MS = 16;
/** A batch of this size waits for nobody. */
const BATCH_BYTES = 64 << 10;
/** Written and not yet shown, from where on the machine waits: some thousand lines. */
export const UNSHOWN_MAX = 256 << 10;

export class Outflow {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #unshown = 0;
  #sentMs = -Infinity;

  constructor(
    private readonly nowMs: () => number,
    private readonly send: (bytes: Uint8Array) => void,
  ) {}

  /** The bytes are the caller's again when this returns. */
  write(bytes: Uint8Array): void {
    this.#chunks.push(bytes.slice());
    this.#bytes += bytes.length;
    this.#unshown += bytes.length;
  }

  /** The page has shown so many bytes. */
  shown(bytes: number): void {
    this.#unshown = Math.max(0, this.#unshown - bytes);
  }

  /** More has been written than anybody has seen. */
  get isFull(): boolean {
    return this.#unshown > UNSHOWN_MAX;
  }

  get isEmpty(): boolean {
    return this.#bytes === 0;
  }

  /** Milliseconds until what is gathered is due; 0: now. */
  get dueMs(): number {
    return this.#bytes >= BATCH_BYTES ? 0 : Math.max(0, this.#sentMs + BATCH_MS - this.nowMs());
  }

  flush(): void {
    if (this.isEmpty) return;
    const all = new Uint8Array(this.#bytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [];
    this.#bytes = 0;
    this.#sentMs = this.nowMs();
    this.send(all);
  }
}
