// The stream of figures, and calls. Both by fetch: a token goes into a header, never into a URL.

const TOKEN = "edgeway-token";

/** For as long as the tab is open. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  put: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

function headers(more) {
  const shown = token.get();
  return { ...more, ...(shown ? { Authorization: `Bearer ${shown}` } : {}) };
}

/** What a call was answered with that did not go well. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.detail ?? `the gateway has answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** Calls the gateway, and returns what it says. */
export async function call(method, path, body) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const kind = body === undefined && method !== "POST" ? {} : { "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers: headers(kind), ...sent });
  const text = await response.text();
  let said = null;
  try { said = text ? JSON.parse(text) : null; } catch { said = { detail: text }; }
  if (!response.ok) throw new Refused(response.status, said);
  return said;
}

/**
 * Follows the figures: `sample(object)` for each, `lost(reason, seconds)` when the connection is gone, `locked()` when
 * a token is wanted. Closed while the page is hidden or paused.
 */
export class Stream {
  #told;
  #stop = null;
  #failures = 0;
  #timer = null;
  paused = false;

  constructor(told) {
    this.#told = told;
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** Opens or closes it, as is right now. */
  look() {
    const wanted = !this.paused && document.visibilityState === "visible";
    if (wanted && !this.#stop) this.#follow();
    if (!wanted) this.close();
  }

  close() {
    clearTimeout(this.#timer);
    this.#stop?.abort();
    this.#stop = null;
  }

  async #follow() {
    const stop = (this.#stop = new AbortController());
    clearTimeout(this.#timer);
    try {
      await this.#read(stop.signal);
      throw new Error("the gateway has closed the stream");
    } catch (error) {
      if (stop.signal.aborted) return;
      this.#stop = null;
      if (error instanceof Refused && error.status === 401) return this.#told.locked(token.get() !== null);
      this.#again(error);
    }
  }

  #again(error) {
    this.#failures += 1;
    const seconds = Math.min(15, 2 ** Math.min(this.#failures - 1, 4));
    const reason = error instanceof TypeError ? "the gateway can't be reached" : error.message;
    this.#told.lost(reason, seconds);
    this.#timer = setTimeout(() => this.look(), seconds * 1000);
  }

  async #read(signal) {
    const response = await fetch("v1/live", { headers: headers({ Accept: "text/event-stream" }), signal });
    if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await this.#timely(reader, signal);
      if (done) return;
      rest += value;
      const events = rest.split("\n\n");
      rest = events.pop();
      for (const event of events) this.#event(event);
    }
  }

  /** A stream that says nothing for long is one that is lost, whatever the network thinks. */
  async #timely(reader, signal) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => { reader.cancel().catch(() => {}); reject(new Error("nothing was heard for 10 seconds")); }, 10_000);
    });
    try {
      signal.throwIfAborted();
      return await Promise.race([reader.read(), late]);
    } finally { clearTimeout(timer); }
  }

  #event(text) {
    const data = text.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
    if (!data.length) return;
    this.#failures = 0;
    this.#told.sample(JSON.parse(data.join("\n")));
  }
}
