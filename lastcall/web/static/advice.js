/** What stands in the way, in plain words, and what to set so that it does not. Pure. */

/** Advice is a list: what to read, and what to copy. */
const copy = (...lines) => ({ lines });

/** Why the connection ended for good. */
export function whyEnded({ code, reason }, hasToken) {
  if (code === 3501 && !hasToken) {
    return [
      "This server lets nobody in without a token. For a first try on your own machine start it so that everybody may do everything:",
      copy("LASTCALL_INSECURE=true uvicorn main:app"),
      "Or give it a secret, LASTCALL_TOKEN_SECRET, and paste a token above that was made with the same:",
      copy("lastcall token --user ann"),
      "LASTCALL_ALLOW_ANONYMOUS=true lets clients in without one, as nobody in particular.",
    ];
  }
  if (code === 3507) {
    return [
      "The token names no user, and this server lets nobody in anonymously. Make one for a user, or allow it:",
      copy("LASTCALL_ALLOW_ANONYMOUS=true"),
    ];
  }
  if (code === 3500) {
    return [
      "The server does not accept this token. Perhaps it was signed with another secret, or the server has none. This makes one by the settings of the directory it runs in:",
      copy("lastcall token --user ann"),
      "The server needs the same LASTCALL_TOKEN_SECRET.",
    ];
  }
  if (code === 1) {
    return ["The time of this token is over. Make another, and paste it above:", copy("lastcall token --user ann")];
  }
  if (code === 3503) return ["The server has sent this page away."];
  return [`The server ended the connection: ${reason} (${code}).`];
}

/** No connection was ever made. */
export function noAnswer(path) {
  return [
    `No connection to /${path} yet; this page keeps trying. The application needs lastcall.router for it, and a page of another origin has to be allowed: LASTCALL_ALLOWED_ORIGINS.`,
  ];
}

/** The table of lastcall.toml with the options of *channel*. */
export function tableOf(channel) {
  const [namespace, rest] = channel.replace(/^\$/, "").split(":", 2);
  return rest === undefined ? "[channels]" : `[namespaces.${namespace}]`;
}

const options = (channel, ...lines) => copy("# lastcall.toml", tableOf(channel), ...lines);

/** Why the subscription was refused. */
export function whyRefused({ code, reason }, channel, hasUser) {
  if (code === 102) {
    return [
      "The server knows no such namespace: what stands before the colon has to be configured.",
      options(channel, "history_size = 1000", "force_recovery = true"),
    ];
  }
  if (code === 103 && channel.startsWith("$")) {
    return ["A channel that begins with $ needs a token for the channel, which this page has no place for."];
  }
  if (code === 103) {
    const lines = ["allow_subscribe_for_client = true"];
    if (!hasUser) lines.push("allow_subscribe_for_anonymous = true");
    return [`You may not subscribe to ${channel}. This opens it:`, options(channel, ...lines)];
  }
  if (code === 105) return ["The token has subscribed this page to the channel already. Take another channel."];
  if (code === 107) return ["The server does not take this as the name of a channel."];
  return [`The server refused the subscription: ${reason} (${code}).`];
}

/** The subscription is there; what it lacks. */
export function whatLacks(channel, recoverable) {
  if (recoverable) return [];
  return [
    "Subscribed, without recovery: what is published while this page is away is missed. This keeps it:",
    options(channel, "history_size = 1000", "force_recovery = true"),
  ];
}

const NOT_ALLOWED = {
  publish: "You may not publish here.",
  presence: "You may not see who is here.",
  history: "You may not read the history.",
};
const OFF = {
  presence: "This channel does not know who is here: presence = true switches it on.",
  history: "This channel has no history: history_size = 1000 gives it one.",
};

/** Why *what* (`publish`, `presence`, `history`) failed, in one sentence or two. */
export function whyNot(what, { code, message }, channel) {
  if (code === 103) {
    return `${NOT_ALLOWED[what]} allow_${what}_for_subscriber = true in ${tableOf(channel)} allows it.`;
  }
  if (code === 108 && OFF[what]) return OFF[what];
  if (code < 100) return "No answer: the connection was lost.";
  return `The server refused: ${message} (${code}).`;
}
