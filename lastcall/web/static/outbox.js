/** What this page has sent and not yet heard back: the server's order decides where it stands. */

import { make, messageElement, showTime } from "./log.js";

/** A message that stays away this long, connected or not, may be lost. */
const DOUBT_AFTER = 15_000;

export class Outbox {
  #waiting = [];
  #element;
  #log;
  #send;

  /** *send* carries a text to the server and says whether it could. */
  constructor(element, log, send) {
    this.#element = element;
    this.#log = log;
    this.#send = send;
  }

  /** Send *text*; false, and nothing done, if there is no connection. */
  send(text) {
    if (!this.#send(text)) return false;
    const element = messageElement(text, "You", "own pending");
    const timer = setTimeout(() => this.#doubt(element, text), DOUBT_AFTER);
    this.#waiting.push({ text, element, timer });
    this.#element.append(element);
    this.#log.follow();
    return true;
  }

  /** Whether *text* is one of ours that came back; if so it now has its place in the log. */
  cameBack(text) {
    const index = this.#waiting.findIndex((sent) => sent.text === text);
    if (index < 0) return false;
    const [{ element, timer }] = this.#waiting.splice(index, 1);
    clearTimeout(timer);
    element.className = "message own";
    element.querySelector(".doubt")?.remove();
    showTime(element.querySelector("time"));
    this.#log.place(element);
    return true;
  }

  /** The connection was cut: nobody knows what became of those still waiting. */
  cut() {
    for (const { element, text, timer } of this.#waiting.splice(0)) {
      clearTimeout(timer);
      this.#doubt(element, text);
      this.#log.place(element);
    }
  }

  #doubt(element, text) {
    if (element.classList.contains("unsure")) return;
    element.className = "message own unsure";
    const again = make("button", "small", "Send again");
    again.type = "button";
    again.addEventListener("click", () => this.#again(element, text));
    const doubt = make("p", "doubt", "Not confirmed: it may not have arrived.");
    doubt.append(again);
    element.append(doubt);
  }

  #again(element, text) {
    const index = this.#waiting.findIndex((sent) => sent.element === element);
    if (!this.send(text)) return;
    if (index >= 0) this.#waiting.splice(index, 1);
    element.remove();
  }
}
