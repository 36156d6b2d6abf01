/** What has been said, newest last: bounded, and following the end unless somebody reads above. */

const MOST_ENTRIES = 500;
const NEAR_THE_END = 48;

/** An element with text in it; text is never markup. */
export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

// Made once: making one costs more than everything else about a message.
const TO_THE_MINUTE = new Intl.DateTimeFormat([], { timeStyle: "short" });
const TO_THE_SECOND = new Intl.DateTimeFormat([], { timeStyle: "medium" });
const IN_FULL = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "medium" });

/** The time of day for people, with the whole date on pointing at it. */
export function showTime(element, { seconds = false } = {}) {
  const date = new Date();
  element.dateTime = date.toISOString();
  element.title = IN_FULL.format(date);
  element.textContent = (seconds ? TO_THE_SECOND : TO_THE_MINUTE).format(date);
  return element;
}

const now = () => showTime(document.createElement("time"));

/** One message with its time; *who* is read aloud where others see the side and the colour. */
export function messageElement(text, who, className) {
  const element = make("article", `message ${className}`);
  const body = make("p", "text", text);
  body.dir = "auto";
  const foot = make("footer", "");
  foot.append(now());
  element.append(make("span", "visually-hidden", `${who}: `), body, foot);
  return element;
}

export class Log {
  #entries;
  #scroller;
  #newer;
  #empty;
  #following = true;
  #unseen = 0;

  constructor({ entries, scroller, newer, empty }) {
    this.#entries = entries;
    this.#scroller = scroller;
    this.#newer = newer;
    this.#empty = empty;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    newer.addEventListener("click", () => this.follow());
  }

  message(text) {
    this.#append(messageElement(text, "Somebody", "theirs"));
    this.#missed();
  }

  binary(bytes) {
    const size = `${bytes.toLocaleString()} ${bytes === 1 ? "byte" : "bytes"}`;
    this.#append(messageElement(`Binary message, ${size}`, "Somebody", "theirs binary"));
    this.#missed();
  }

  notice(text) {
    const element = make("p", "notice");
    element.append(make("span", "", text), now());
    this.#append(element);
  }

  /** A line across: here the connection was lost, or came back. */
  separator(text) {
    const element = make("p", "separator");
    const words = make("span", "", text);
    words.append(now());
    element.append(words);
    this.#append(element);
  }

  /** Take over an element that was made elsewhere: it stands here from now on. */
  place(element) {
    this.#append(element);
  }

  /** Go to the end and stay there. */
  follow() {
    this.#empty.hidden = true;
    this.#scroller.scrollTop = 0;
    this.#following = true;
    this.#seen();
  }

  // The scroller is laid out from its end: the end is 0, all above is negative, and new entries
  // move nothing. Asked only when it moved, because asking costs a layout of all entries.
  #scrolled() {
    this.#following = this.#scroller.scrollTop > -NEAR_THE_END;
    if (this.#following) this.#seen();
  }

  #append(element) {
    if (element.tagName === "ARTICLE") this.#empty.hidden = true;
    this.#entries.append(element);
    while (this.#entries.childElementCount > MOST_ENTRIES) this.#entries.firstElementChild.remove();
  }

  #missed() {
    if (this.#following) return;
    this.#unseen += 1;
    this.#newer.textContent = this.#unseen === 1 ? "1 new message" : `${this.#unseen} new messages`;
    this.#newer.hidden = false;
  }

  #seen() {
    this.#unseen = 0;
    this.#newer.hidden = true;
  }
}
