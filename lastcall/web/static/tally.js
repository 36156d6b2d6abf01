/** Counts what is missing and what came twice, by the numbers that pages publish and by offsets. */

const MOST_RUNS = 200;
const MOST_REMEMBERED = 100_000;

/** A numbered publication: `run` names who counts; `again`: that page could not know whether the
 * number had arrived, and said it once more. */
export function isNumbered(data) {
  return (
    typeof data?.run === "string" &&
    data.run.length <= 64 &&
    Number.isSafeInteger(data.number) &&
    data.number > 0
  );
}

/** One sequence 1, 2, 3…: what is absent from it, what came twice. */
class Sequence {
  absent = new Set();
  missing = 0;
  doubled = 0;
  #next;

  constructor(next) {
    this.#next = next;
  }

  hear(number, again) {
    if (number < this.#next) {
      if (this.absent.delete(number)) this.missing -= 1;
      else if (!again) this.doubled += 1;
      return;
    }
    this.missing += number - this.#next;
    const from = Math.max(this.#next, number - MOST_REMEMBERED);
    for (let each = from; each < number; each += 1) this.absent.add(each);
    this.#next = number + 1;
  }
}

export class Tally {
  /** Numbered publications that came. */
  heard = 0;
  /** Times that the server said it cannot fill a gap. */
  gaps = 0;
  #runs = new Map();
  #offsets = null;
  /** Of sequences that are over. */
  #past = { missing: 0, doubled: 0 };
  #pastOffsets = { missing: 0, doubled: 0 };

  /** The channel is at *offset* (undefined: it has no history); all that follows has to come. */
  begin(offset) {
    this.#offsets = offset === undefined ? null : new Sequence(offset + 1);
  }

  /** The server says that there is a gap up to *offset*: what was expected before does not count. */
  gap(offset) {
    this.gaps += 1;
    for (const run of this.#runs.values()) keep(this.#past, run);
    this.#runs.clear();
    if (this.#offsets) keep(this.#pastOffsets, this.#offsets);
    this.begin(offset);
  }

  hear({ data, offset }) {
    if (offset) (this.#offsets ??= new Sequence(offset)).hear(offset, false);
    if (!isNumbered(data)) return;
    this.heard += 1;
    let run = this.#runs.get(data.run);
    if (run === undefined) {
      run = new Sequence(data.number);
      this.#runs.set(data.run, run);
      if (this.#runs.size > MOST_RUNS) this.#drop(this.#runs.keys().next().value);
    }
    run.hear(data.number, data.again === true);
  }

  // Who is numbered has an offset as well, so the larger count holds all that the other one does.
  get missing() {
    return this.#sum("missing");
  }

  get doubled() {
    return this.#sum("doubled");
  }

  #drop(name) {
    keep(this.#past, this.#runs.get(name));
    this.#runs.delete(name);
  }

  #sum(what) {
    let numbers = this.#past[what];
    for (const run of this.#runs.values()) numbers += run[what];
    return Math.max(numbers, this.#pastOffsets[what] + (this.#offsets?.[what] ?? 0));
  }
}

function keep(past, sequence) {
  past.missing += sequence.missing;
  past.doubled += sequence.doubled;
}

const counted = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

/** What a person wants to know of a tally, and whether it is good. */
export function verdict(tally) {
  if (tally.missing || tally.doubled) {
    return { is: "bad", words: `${tally.missing.toLocaleString()} missing, ${tally.doubled.toLocaleString()} doubled.` };
  }
  if (tally.gaps) {
    return { is: "told", words: `The server said ${counted(tally.gaps, "time")} that it cannot fill a gap.` };
  }
  if (!tally.heard) return { is: "nothing", words: "Nothing counted yet." };
  return { is: "good", words: `Nothing missing, nothing doubled, of ${counted(tally.heard, "number")}.` };
}
