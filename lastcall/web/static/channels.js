/** The second tab: one channel with the official SDK, and whether anything was missed in it. */

import "./centrifuge.js";
import { noAnswer, whatLacks, whyEnded, whyNot, whyRefused } from "./advice.js";
import { Counter } from "./counter.js";
import { Live, pastEntry, peopleOf } from "./entries.js";
import { make } from "./log.js";
import { Tally, verdict } from "./tally.js";
import { websocketUrl } from "./connection.js";

const HISTORY_PAGE = 20;
/** Who comes and goes may come and go in crowds; they are asked for once. */
const PRESENCE_REST = 300;
/** What a server answers that takes nobody at the moment. */
const TOO_MANY = 111;

const byId = (id) => document.getElementById(id);
const settings = document.documentElement.dataset;
const live = new Live(byId("live"), byId("no-publications"));

let client = null;
let subscription = null;
let tally = new Tally();
let cuts = 0;
let own = "";
let caughtUp = 0;
let isCatchingUp = false;
let subscribesAtOnce = true;

/* ---- how things stand ---- */

function show(phase, words) {
  byId("session").dataset.phase = phase;
  byId("session-text").textContent = words;
}

function advise(advice) {
  const parts = advice.map((part) => (part.lines ? make("pre", "", part.lines.join("\n")) : make("p", "", part)));
  byId("advice").replaceChildren(...parts);
}

function showTally() {
  const { is, words } = verdict(tally);
  byId("verdict").dataset.is = is;
  if (byId("verdict").textContent !== words) byId("verdict").textContent = words;
  byId("heard-count").textContent = tally.heard.toLocaleString();
  byId("missing-count").textContent = tally.missing.toLocaleString();
  byId("doubled-count").textContent = tally.doubled.toLocaleString();
  byId("cut-count").textContent = cuts.toLocaleString();
}

/** Once a frame: catching up may bring hundreds in one moment. */
let drawing = false;
function showTallySoon() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    showTally();
  }, 50);
}

function enable() {
  const subscribed = subscription?.state === "subscribed";
  byId("subscribe").disabled = client?.state !== "connected";
  byId("subscribe").textContent = subscription ? "Unsubscribe" : "Subscribe";
  byId("channel").readOnly = subscription !== null;
  byId("publish").disabled = !subscribed;
  byId("ask-presence").disabled = !subscribed;
  byId("ask-history").disabled = !subscribed;
  byId("count").disabled = !subscribed && !counter.counts;
  byId("count").textContent = counter.counts ? "Stop counting" : "Start counting";
}

/* ---- the connection ---- */

function connect() {
  forget();
  const before = client;
  client = null;
  before?.disconnect();
  own = "";
  subscribesAtOnce = true;
  const token = byId("token").value.trim();
  const fresh = new Centrifuge(websocketUrl(settings.connectionPath, location.href), { token });
  client = fresh;
  const on = (event, act) => fresh.on(event, (about) => client === fresh && act(about));
  on("connecting", ({ code }) => connecting(code));
  on("connected", connected);
  on("disconnected", (why) => disconnected(why, token !== ""));
  on("error", ({ type, error }) => {
    if (type === "transport" && own === "") advise(noAnswer(settings.connectionPath));
    if (type === "connect" && error.code === TOO_MANY) show("waiting", "Server is busy or leaving, trying again");
  });
  // A shutdown notice. What else an application sends is not ours to explain.
  on("message", ({ data }) => {
    if (data === settings.shutdownNotice) show("leaving", "Server is leaving, still connected");
  });
  fresh.connect();
}

function connecting(code) {
  // The first time somebody asked for it; after that the connection was lost.
  show("connecting", code === 0 ? "Connecting…" : "Reconnecting…");
  advise([]);
  enable();
}

function connected({ client: id }) {
  own = id;
  show("open", "Connected");
  advise([]);
  if (subscribesAtOnce && byId("channel").value) subscribe();
  subscribesAtOnce = false;
  enable();
}

function disconnected(why, hasToken) {
  show("ended", "Not connected");
  forget();
  advise(whyEnded(why, hasToken));
  enable();
}

/* ---- the subscription ---- */

function subscribe() {
  const channel = byId("channel").value.trim();
  const fresh = client.newSubscription(channel, { positioned: true, recoverable: true, joinLeave: true });
  subscription = fresh;
  tally = new Tally();
  cuts = 0;
  live.clear();
  byId("past").replaceChildren();
  byId("recovery").textContent = "";
  const on = (event, act) => fresh.on(event, (about) => subscription === fresh && act(about));
  on("subscribing", subscribing);
  on("subscribed", subscribed);
  on("unsubscribed", unsubscribed);
  on("publication", heard);
  on("join", askPresenceSoon);
  on("leave", askPresenceSoon);
  fresh.subscribe();
  showTally();
  enable();
}

function subscribing({ code }) {
  if (code !== 0) cuts += 1;
  byId("publisher-words").textContent = "";
  showTallySoon();
  enable();
}

function subscribed({ recoverable, wasRecovering, recovered, streamPosition }) {
  advise(whatLacks(subscription.channel, recoverable));
  if (cuts === 0) tally.begin(streamPosition?.offset);
  else if (!recovered) tally.gap(streamPosition?.offset);
  if (cuts > 0) {
    caughtUp = 0;
    // What was missed is told in this very turn, before anything else.
    isCatchingUp = true;
    setTimeout(() => {
      isCatchingUp = false;
      showRecovery(wasRecovering && recovered);
    });
  }
  showTallySoon();
  askPresenceSoon();
  enable();
}

function showRecovery(recovered) {
  const missed = `${caughtUp.toLocaleString()} ${caughtUp === 1 ? "publication" : "publications"} caught up`;
  const answer = recovered ? `yes, ${missed}` : "no, the server cannot say what was missed";
  byId("recovery").replaceChildren("Recovered: ", make("strong", "", answer), ".");
}

function unsubscribed(why) {
  if (why.code === 0) return;
  const { channel } = subscription;
  forget();
  advise(whyRefused(why, channel, byId("token").value.trim() !== ""));
  enable();
}

function forget() {
  counter.stop();
  const gone = subscription;
  subscription = null;
  byId("people").replaceChildren();
  byId("presence-words").textContent = "You will see it when you are subscribed.";
  if (!gone) return;
  gone.unsubscribe();
  client.removeSubscription(gone);
}

function heard(publication) {
  tally.hear(publication);
  live.hear(publication, own, isCatchingUp);
  if (isCatchingUp) caughtUp += 1;
  showTallySoon();
}

/* ---- what the buttons do ---- */

const counter = new Counter(
  (data) => subscription.publish(data),
  (error) => {
    byId("publisher-words").textContent = whyNot("publish", error, subscription.channel);
    enable();
  },
);

/** Text as text, and JSON as what it says: numbers and `true` too, as the API would take them. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function publish() {
  const text = byId("publication").value.toWellFormed?.() ?? byId("publication").value;
  if (!text.trim() || byId("publish").disabled) return;
  const { channel } = subscription;
  byId("publisher-words").textContent = "";
  try {
    await subscription.publish(parsed(text));
    if (byId("publication").value === text) byId("publication").value = "";
  } catch (error) {
    byId("publisher-words").textContent = whyNot("publish", error, channel);
  }
}

let presenceTimer = null;
function askPresenceSoon() {
  presenceTimer ??= setTimeout(askPresence, PRESENCE_REST);
}

async function askPresence() {
  presenceTimer = null;
  const asked = subscription;
  if (asked?.state !== "subscribed") return;
  let people = [];
  let words = "";
  try {
    people = peopleOf((await asked.presence()).clients, own);
  } catch (error) {
    words = whyNot("presence", error, asked.channel);
  }
  if (subscription !== asked) return;
  byId("people").replaceChildren(...people);
  byId("presence-words").textContent = words;
}

async function askHistory() {
  const asked = subscription;
  let entries = [];
  let words = "";
  try {
    const { publications, offset } = await asked.history({ limit: HISTORY_PAGE, reverse: true });
    entries = publications.map((each) => pastEntry(each, own));
    words = entries.length ? `The newest ${entries.length}; the channel is at offset ${offset}.` : "Nothing is kept.";
  } catch (error) {
    words = whyNot("history", error, asked.channel);
  }
  if (subscription !== asked) return;
  byId("past").replaceChildren(...entries);
  byId("history-words").textContent = words;
}

const submitted = (form, act) =>
  byId(form).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });

submitted("door", connect);
submitted("publisher", publish);
submitted("subscriber", () => {
  if (subscription) {
    forget();
    advise([]);
    enable();
  } else {
    subscribe();
  }
});
byId("ask-presence").addEventListener("click", askPresence);
byId("ask-history").addEventListener("click", askHistory);
byId("count").addEventListener("click", () => {
  if (counter.counts) counter.stop();
  else counter.start();
  enable();
});

byId("channel").value = settings.channel;
enable();
connect();
