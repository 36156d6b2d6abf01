// One client of the JavaScript SDK, steered by lines of JSON on stdin; what it reports goes to
// stdout, with the names of the wire format, as the Python SDK has them.

import { createInterface } from "node:readline";
import * as json from "centrifuge";
import * as protobuf from "centrifuge/build/protobuf";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const { endpoint, asks, anew, binary, options } = JSON.parse(process.argv[2]);

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const snakeCase = (name) => name.replace(/[A-Z]/g, (letter) => "_" + letter.toLowerCase());

// In Protobuf payloads are bytes; here they are JSON all the same, or `{"bytes": …}` in base64.
const packed = (data) => {
  if (!binary) return data;
  if (typeof data?.bytes === "string") return new Uint8Array(Buffer.from(data.bytes, "base64"));
  return new TextEncoder().encode(JSON.stringify(data));
};
const isBytes = (value) => value instanceof Uint8Array;
const unpacked = (data) => {
  if (!data.length) return null;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    return { bytes: Buffer.from(data).toString("base64") };
  }
};

// What the application has published stays as it is.
const renamed = (value, name) => {
  if (isBytes(value)) return unpacked(value);
  if (name === "data" || typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => renamed(each));
  return Object.fromEntries(
    Object.entries(value)
      // Without `info` there are no bytes of it: in JSON there is no field.
      .filter(([key, each]) => key === "data" || !isBytes(each) || each.length)
      .map(([key, each]) => [snakeCase(key), renamed(each, key)]),
  );
};

const report = (emitter, names, channel) => {
  for (const name of names) {
    emitter.on(name, ({ channel: named = "", ...fields }) =>
      say({ on: name, channel: channel ?? named, fields: renamed(fields) }),
    );
  }
};

let wishes = [];
const wish = ({ channel = "" } = {}) =>
  new Promise((resolve) => {
    wishes.push(resolve);
    say({ on: "token wanted", channel, fields: {} });
  });

const EVENTS = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];

// Over a connection of its own a request may come to any worker.
const fetchAnew = (url, init) =>
  fetch(url, { ...init, headers: { ...init.headers, connection: "close" } });

const client = new (binary ? protobuf : json).Centrifuge(endpoint, {
  ...options,
  websocket: WebSocket,
  eventsource: EventSource,
  ...(asks ? { getToken: wish } : {}),
  ...(anew ? { fetch: fetchAnew } : {}),
});
report(client, ["connecting", "connected", "disconnected", "message", ...EVENTS]);

const subscription = ({ channel, asks, options }) => {
  const known = client.getSubscription(channel);
  if (known !== null) return known;
  const made = client.newSubscription(channel, { ...options, ...(asks ? { getToken: wish } : {}) });
  report(made, EVENTS, channel);
  return made;
};

const actions = {
  connect: () => client.connect(),
  disconnect: () => client.disconnect(),
  subscribe: (line) => subscription(line).subscribe(),
  unsubscribe: ({ channel }) => client.getSubscription(channel).unsubscribe(),
  publish: ({ channel, data }) => client.publish(channel, packed(data)),
  history: ({ channel, options }) => client.history(channel, options),
  presence: ({ channel }) => client.presence(channel),
  presenceStats: ({ channel }) => client.presenceStats(channel),
  deltaStats: ({ channel }) => client.getSubscription(channel).deltaStats(),
  rpc: ({ method, data }) => client.rpc(method, packed(data)),
  send: ({ data }) => client.send(packed(data)),
};

const act = async ({ call, do: what, ...line }) => {
  try {
    say({ call, result: renamed((await actions[what](line)) ?? null) });
  } catch ({ code = -1, message }) {
    say({ call, error: { code, message } });
  }
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (text) => {
  const line = JSON.parse(text);
  if ("give" in line) {
    const waiting = wishes;
    wishes = [];
    for (const resolve of waiting) resolve(line.give);
  } else {
    act(line);
  }
});
lines.on("close", () => {
  client.disconnect();
  process.exit(0);
});
