// Puts the page together.

import { Chat } from "./chat.js";
import { copyButtons } from "./copy.js";
import { fill } from "./fill.js";
import { Live } from "./live.js";
import { call, key, Refusal } from "./net.js";
import { Spark } from "./spark.js";
import { tabs } from "./tabs.js";

const $ = (id) => document.getElementById(id);
const filled = [$("state"), $("status")];
const sparks = { waiting: new Spark($("spark-waiting")), speed: new Spark($("spark-speed")) };
let before = null;

// To those who can't see it: rarely, and never a number that only moves.
function announce(words) {
  $("announce").textContent = words;
}

function told(status) {
  for (const element of filled) fill(element, status);
  sparks.waiting.add(status.queue.waiting);
  sparks.speed.add(status.tokens_per_s);
  $("lost").hidden = true;
  const waiting = status.queue.waiting;
  document.title = waiting ? `${waiting} waiting · gateway` : "gateway";
  for (const words of changes(before, status)) announce(words);
  before = status;
}

function* changes(old, now) {
  if (!old) return;
  if (old.state !== now.state) yield `The gateway is ${now.state.replace("_", " ")}. ${now.detail}`;
  for (const { name, up } of now.upstreams) {
    const known = old.upstreams.find((upstream) => upstream.name === name);
    if (known && known.up !== up) yield `The engine ${name} is ${up ? "up" : "down"}.`;
  }
}

function lost() {
  if (before && $("lost").hidden) {
    $("lost").hidden = false;
    $("lost-at").textContent = new Date(before.at * 1000).toLocaleTimeString();
    announce("The gateway does not answer.");
  }
}

// --- The key -------------------------------------------------------------------------

function showKey(shown, why) {
  $("key").hidden = !shown;
  $("key-button").setAttribute("aria-expanded", String(shown));
  if (why) $("key-why").textContent = why;
  $("key-forget").hidden = !key.get();
}

function refused(error) {
  if (error.status === 401) showKey(true, key.get() ? "This key is not known here." : "The gateway wants a key.");
  if (error.status !== 403) return;
  $("locked-why").textContent = "This key may use models, and not look into the gateway: its status is for operators.";
}

$("key-button").addEventListener("click", () => {
  showKey($("key").hidden);
  if (!$("key").hidden) $("key-text").focus();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  use($("key-text").value.trim());
});
$("key-forget").addEventListener("click", () => use(""));

function use(text) {
  key.set(text);
  $("key-text").value = "";
  showKey(false);
  announce(text ? "The key is used from now on." : "The key is forgotten.");
  live.restart();
  chat.listModels();
}

// --- Models by hand --------------------------------------------------------------------

$("status").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-act]");
  if (!button || button.disabled) return;
  const { act, model } = button.dataset;
  button.disabled = true;
  $("models-said").textContent = act === "load" ? `Loading ${model}…` : `Unloading ${model}…`;
  try {
    const { seconds } = await (await call(`gateway/models/${act}`, { body: { model } })).json();
    $("models-said").textContent = `${model} is ${act}ed, after ${seconds.toFixed(1)} s.`;
  } catch (error) {
    $("models-said").textContent = error.message;
    if (error instanceof Refusal) refused(error);
  } finally {
    button.disabled = false;
  }
});

// --- All together ----------------------------------------------------------------------

const live = new Live({ told, lost, refused });
const chat = new Chat({ announce, refused });
copyButtons($("connect"), announce);
let asked = false;
tabs($("tabs"), (name) => {
  if (name !== "chat") return;
  if (!asked) chat.listModels();
  asked = true;
});
live.start();
