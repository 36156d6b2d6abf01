/** The page: puts the connection, the log and the outbox together, and shows how things stand. */

import { Connection, websocketUrl } from "./connection.js";
import { Log, showTime } from "./log.js";
import { Outbox } from "./outbox.js";

const ANNOUNCEMENT = /^(Client ".*"|\d+ clients?) (dis)?connected\.$/;
/** So many intervals without a word, and what was said last no longer counts. */
const PATIENCE = 3;

const byId = (id) => document.getElementById(id);
const settings = document.documentElement.dataset;
/** Bounded, because a timer that is set beyond 2^31 fires at once. */
const milliseconds = (seconds) => Math.min(Number(seconds) * 1000, 2 ** 29);

const state = byId("state");
const stateText = byId("state-text");
const retry = byId("retry");
const heard = byId("heard");
const leaving = byId("banner").firstElementChild;
const updated = byId("updated");
const input = byId("input");
const sendButton = byId("send");
const hint = byId("hint");

const log = new Log({
  entries: byId("log"),
  scroller: byId("scroller"),
  newer: byId("newer"),
  empty: byId("empty"),
});
const outbox = new Outbox(byId("outbox"), log, (text) => {
  if (connection.open) connection.send(text);
  return connection.open;
});

/* ---- how things stand ---- */

function show(phase, words, spoken = words) {
  state.dataset.phase = phase;
  document.body.classList.toggle("offline", !connection.open);
  stateText.textContent = words;
  // Said once a phase: a countdown that is read aloud every second helps nobody.
  if (byId("state-spoken").textContent !== spoken) byId("state-spoken").textContent = spoken;
  retry.hidden = phase !== "waiting" && phase !== "ended";
  weigh();
}

function showOpen() {
  if (leaving.hidden) show("open", "Connected");
  else show("leaving", "Server is leaving, still connected");
}

let countdown;
function showWaiting(until) {
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  show("waiting", `Reconnecting in ${seconds} s`, "Not connected, reconnecting");
  countdown = setTimeout(showWaiting, 250, until);
}

let lastBeat = null;

/** The next heartbeat is expected after the time that this server takes between two: the settings
 * came with the page, perhaps from a server before this one. */
function beat() {
  const now = performance.now();
  if (lastBeat !== null) {
    const interval = Math.max(now - lastBeat, milliseconds(settings.heartbeatInterval));
    connection.expectWithin(PATIENCE * interval);
  }
  lastBeat = now;
  showTime(heard.querySelector("time"), { seconds: true });
  heard.hidden = false;
  const dot = byId("dot");
  dot.classList.remove("beat");
  // Reading the width in between lets the same animation start again.
  if (dot.offsetWidth) dot.classList.add("beat");
}

let leavingTimer;
function serverLeaves(notice) {
  if (leaving.hidden) log.notice(notice);
  leaving.hidden = false;
  showOpen();
  // The server repeats itself until it is gone. If it stops, it stayed, or somebody else wrote
  // the same words; either way the warning is over.
  clearTimeout(leavingTimer);
  leavingTimer = setTimeout(() => {
    if (connection.open) serverStays();
  }, PATIENCE * milliseconds(settings.shutdownNoticeInterval));
}

function serverStays() {
  clearTimeout(leavingTimer);
  leaving.hidden = true;
  showOpen();
}

/** The server that took over may have another page, and other texts to recognise. */
async function lookForUpdate() {
  try {
    const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" });
    const tag = answer.headers.get("ETag");
    updated.hidden = !answer.ok || !tag || tag.includes(settings.version);
  } catch {
    // Gone again already; the next connection asks again.
  }
}

/* ---- unread ---- */

let unread = 0;
function setUnread(count) {
  unread = count;
  document.title = count ? `(${count}) Lastcall` : "Lastcall";
}

/* ---- the connection ---- */

function received(data) {
  if (typeof data === "string") {
    if (outbox.cameBack(data)) return;
    if (data === settings.heartbeat) return beat();
    if (data === settings.shutdownNotice) return serverLeaves(data);
    if (ANNOUNCEMENT.test(data)) return log.notice(data);
    log.message(data);
  } else {
    log.binary(data.size);
  }
  if (document.hidden) setUnread(unread + 1);
}

let lost = false;
const connection = new Connection(
  websocketUrl(settings.websocketPath, location.href),
  {
    connecting() {
      clearTimeout(countdown);
      show("connecting", lost ? "Reconnecting…" : "Connecting…");
    },
    opened() {
      lastBeat = null;
      if (lost) {
        log.separator("Connected again. What was said meanwhile is not shown. ");
        lookForUpdate();
      }
      lost = false;
      serverStays();
    },
    received,
    closed(sentence, wasOpen) {
      if (!wasOpen) return;
      lost = true;
      outbox.cut();
      log.separator(`Disconnected. ${sentence} `);
    },
    waiting: showWaiting,
    ended() {
      show("ended", "Not connected");
    },
  },
);

/* ---- writing ---- */

const size = (text) => new TextEncoder().encode(text).length;

/** Say what stands in the way of sending, and let the button say the same. */
function weigh() {
  const bytes = size(input.value);
  const most = Number(settings.maxMessageSize);
  const tooLong = bytes > most;
  sendButton.disabled = !connection.open || tooLong || !input.value.trim();
  const words = tooLong
    ? `Too long: ${bytes.toLocaleString()} of at most ${most.toLocaleString()} bytes.`
    : connection.open
      ? ""
      : "Not connected. Your text stays here until you can send it.";
  if (hint.textContent !== words) hint.textContent = words;
  hint.classList.toggle("wrong", tooLong);
}

function grow() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  // Half of a surrogate pair would come back as another text than was sent.
  const text = input.value.toWellFormed?.() ?? input.value;
  if (sendButton.disabled || !outbox.send(text)) return;
  input.value = "";
  grow();
  weigh();
  input.focus();
});

input.addEventListener("input", () => {
  grow();
  weigh();
});

input.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

/* ---- coming back ---- */

byId("reload").addEventListener("click", () => location.reload());

retry.addEventListener("click", () => connection.retry());
window.addEventListener("online", () => connection.hurry());
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  setUnread(0);
  connection.hurry();
});

connection.connect();
grow();
if (matchMedia("(hover: hover)").matches) input.focus();
