/** Lists of publications and of people: newest first, bounded, text and never markup. */

import { make, showTime } from "./log.js";
import { isNumbered } from "./tally.js";

const MOST_ENTRIES = 100;
const SHORT = 8;

/** Who that is, as far as the server says. */
export function nameOf(info, own) {
  if (!info) return "the server";
  const name = info.user || "anonymous";
  return info.client === own ? `${name}, this page` : `${name}, ${info.client.slice(0, SHORT)}`;
}

function textOf(data) {
  if (isNumbered(data)) return `Number ${data.number}`;
  return typeof data === "string" ? data : JSON.stringify(data);
}

function entry(offset, text, foot) {
  const element = document.createElement("li");
  const body = make("p", "text", text);
  body.dir = "auto";
  element.append(make("span", "offset", offset ? `${offset}` : ""), body, foot);
  return element;
}

function footOf(publication, own) {
  const foot = make("footer", "");
  foot.append(make("span", "who", nameOf(publication.info, own)));
  return foot;
}

/** One publication, as it stands in a history. */
export function pastEntry(publication, own) {
  return entry(publication.offset, textOf(publication.data), footOf(publication, own));
}

/** What is heard, while it is heard. Numbers of one page share an entry until something else comes. */
export class Live {
  #list;
  #empty;
  #rows = new Map();

  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
  }

  clear() {
    this.#list.replaceChildren();
    this.#empty.hidden = false;
    this.#rows.clear();
  }

  hear(publication, own, caughtUp) {
    this.#empty.hidden = true;
    const run = isNumbered(publication.data) ? publication.data.run : null;
    const row = this.#rows.get(run);
    if (row?.caughtUp === caughtUp) {
      extend(row, publication);
      return;
    }
    const foot = footOf(publication, own);
    if (caughtUp) foot.prepend(make("span", "caught-up", "caught up"));
    foot.append(showTime(document.createElement("time"), { seconds: true }));
    const element = entry(publication.offset, textOf(publication.data), foot);
    if (run === null) {
      this.#rows.clear();
    } else {
      const fresh = { element, caughtUp, first: publication.data.number, offset: publication.offset };
      element.classList.add("numbers");
      extend(fresh, publication);
      this.#rows.set(run, fresh);
    }
    this.#list.prepend(element);
    while (this.#list.childElementCount > MOST_ENTRIES) this.#list.lastElementChild.remove();
  }
}

const range = (one, other) => (one === other ? `${one}` : `${one}–${other}`);

function extend({ element, first, offset: from }, { data, offset }) {
  element.querySelector(".text").textContent = `Number ${range(first, data.number)}`;
  if (offset) element.querySelector(".offset").textContent = range(from, offset);
  showTime(element.querySelector("time"), { seconds: true });
}

/** Everybody in a presence: this page first, then by name. */
export function peopleOf(clients, own) {
  const everybody = Object.values(clients);
  everybody.sort((one, other) => (other.client === own) - (one.client === own) || nameOf(one).localeCompare(nameOf(other)));
  return everybody.slice(0, MOST_ENTRIES).map((info) => {
    const element = document.createElement("li");
    element.className = info.client === own ? "own-person" : "";
    element.append(make("p", "text", nameOf(info, own)));
    return element;
  });
}
