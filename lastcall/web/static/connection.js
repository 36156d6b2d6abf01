/** One WebSocket at a time, that comes back by itself until the server says not to. */

const FIRST_WAIT = 500;
const LONGEST_WAIT = 20_000;
const HANDSHAKE_LIMIT = 10_000;
/** A connection that lasted this long was a good one: the next wait starts small again. */
const GOOD_AFTER = 5_000;
const BUSY_FAILURES = 4;

const SENTENCES = {
  1001: "The server went away.",
  1006: "The connection was lost.",
  1007: "The server could not read a message as text.",
  1008: "The server does not let this page in.",
  1009: "A message was too large for the server.",
  1011: "Something went wrong in the server.",
  1012: "The server is restarting.",
  1013: "The server is busy.",
  3001: "The server is being replaced.",
  3008: "This page was too slow to read everything.",
  3013: "Too many messages in a short time.",
};

/** The address of the WebSocket, counted from the page's own: wss under https. */
export function websocketUrl(path, page) {
  const url = new URL(path, page);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}

/** Milliseconds to wait after so many failures in a row; random, so that not all come at once. */
export function waitAfter(failures) {
  const most = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** failures);
  return FIRST_WAIT + Math.random() * (most - FIRST_WAIT);
}

/** What a close code means, in one sentence for people. */
export function explain(code, reason) {
  return SENTENCES[code] ?? (reason ? `The server said: ${reason}.` : "The server closed the connection.");
}

/** Whether the server expects a client with this close code back. */
export function comesBack(code) {
  return code !== 1008 && !(code >= 3500 && code < 4000) && !(code >= 4500 && code < 5000);
}

/**
 * Tells *events* what happens: connecting(), opened(), received(data), closed(sentence, wasOpen),
 * waiting(until), ended().
 */
export class Connection {
  #url;
  #events;
  #socket = null;
  #openedAt = null;
  #failures = 0;
  #silence = 0;
  #ended = false;
  #timer;

  constructor(url, events) {
    this.#url = url;
    this.#events = events;
  }

  get open() {
    return this.#openedAt !== null;
  }

  connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    // A socket that was given up may still report; nobody listens to it any more.
    const on = (type, act) =>
      socket.addEventListener(type, (event) => this.#socket === socket && act(event));
    on("open", () => this.#opened());
    on("message", ({ data }) => this.#received(data));
    on("close", ({ code, reason }) => this.#closed(code, reason));
    this.#after(HANDSHAKE_LIMIT, () => this.#giveUp());
    this.#events.connecting();
  }

  /** Try now what would be tried later; nothing if the server wants nobody back. */
  hurry() {
    if (this.#socket === null && !this.#ended) this.connect();
  }

  /** Try now because a person says so, whatever the server said. */
  retry() {
    if (this.#socket === null) this.connect();
  }

  send(text) {
    this.#socket.send(text);
  }

  /** From now on so many milliseconds without a word mean that the other side of this connection
   * is gone, however open the socket looks. */
  expectWithin(milliseconds) {
    this.#silence = milliseconds;
    this.#watch();
  }

  #opened() {
    this.#openedAt = performance.now();
    this.#silence = 0;
    this.#watch();
    this.#events.opened();
  }

  #received(data) {
    this.#watch();
    this.#events.received(data);
  }

  #watch() {
    clearTimeout(this.#timer);
    if (this.#silence > 0) this.#after(this.#silence, () => this.#giveUp());
  }

  #giveUp() {
    const socket = this.#socket;
    this.#closed(1006, "");
    socket.close();
  }

  #closed(code, reason) {
    const wasOpen = this.open;
    const lasted = wasOpen ? performance.now() - this.#openedAt : 0;
    this.#socket = null;
    this.#openedAt = null;
    this.#failures = lasted > GOOD_AFTER ? 1 : this.#failures + 1;
    if (code === 1013 || code === 3013) this.#failures = Math.max(this.#failures, BUSY_FAILURES);
    clearTimeout(this.#timer);
    this.#events.closed(explain(code, reason), wasOpen);
    this.#ended = !comesBack(code);
    if (this.#ended) this.#events.ended();
    else this.#wait(waitAfter(this.#failures));
  }

  #wait(milliseconds) {
    this.#after(milliseconds, () => this.hurry());
    this.#events.waiting(Date.now() + milliseconds);
  }

  #after(milliseconds, act) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(act, milliseconds);
  }
}
