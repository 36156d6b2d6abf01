/** The two tabs of the page: the chat, and channels. The address says which, so it can be passed on. */

const byId = (id) => document.getElementById(id);
const tabs = [...byId("tabs").children];
const panelOf = (tab) => byId(tab.getAttribute("aria-controls"));

/** Fetched when somebody looks: the SDK is larger than all the rest of the page. */
let channels = null;

function select(tab) {
  for (const each of tabs) {
    const selected = each === tab;
    each.setAttribute("aria-selected", selected);
    each.tabIndex = selected ? 0 : -1;
    panelOf(each).hidden = !selected;
  }
  const showsChannels = panelOf(tab).id === "channels";
  byId("state").hidden = showsChannels;
  byId("session").hidden = !showsChannels;
  if (showsChannels) channels ??= import("./channels.js");
}

const named = () => tabs.find((tab) => `#${panelOf(tab).id}` === location.hash) ?? tabs[0];

function go(tab) {
  history.replaceState(null, "", `#${panelOf(tab).id}`);
  select(tab);
  tab.focus();
}

for (const tab of tabs) tab.addEventListener("click", () => go(tab));

byId("tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = tabs.indexOf(event.target) + step + tabs.length;
  go(tabs[at % tabs.length]);
});

window.addEventListener("hashchange", () => select(named()));
select(named());
