// One turn of the chat: its element, and what is said of it while it comes.

import { duration } from "./fill.js";

const SVG = "http://www.w3.org/2000/svg";
const QUEUED = /^queued (\d+), about (\d+) s$/;

const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...children);
  return element;
};

// Of what is only counted down, parts of a second would flicker.
const whole = (seconds) => (seconds < 60 ? `${Math.ceil(seconds)} s` : duration(Math.ceil(seconds)));

export class Turn {
  id = "";
  #role;
  #text = "";
  #written = new Text();
  #thought = null;
  #facts = make("p", "facts");
  #state = "";
  #due = null;
  #ahead = null;
  #sentAt = performance.now();
  #first = null;
  #broken = false;

  constructor(role, name, text = "") {
    this.#role = role;
    this.element = make("li", `turn ${role}`, make("b", "", name));
    this.element.append(make("div", "text", this.#written), this.#facts);
    this.#write(text);
  }

  // Whether it is a part of the conversation that the model is told of.
  get counts() {
    return this.#text !== "" && !this.#broken;
  }

  // Until its first word; null where none came.
  get firstS() {
    return this.#first === null ? null : (this.#first - this.#sentAt) / 1000;
  }

  get message() {
    return { role: this.#role, content: this.#text };
  }

  sent() {
    this.#sentAt = performance.now();
    this.element.classList.add("writing");
    this.#wait("Sent");
  }

  // A comment of the stream: where it stands until its answer begins.
  waits(comment) {
    const queued = QUEUED.exec(comment);
    if (queued) {
      const [, position, seconds] = queued;
      const place = position === "1" ? "Next in the queue" : `Number ${position} in the queue`;
      this.#wait(place, Number(seconds), (left) => `, about ${left} to go`);
    } else if (comment !== "ping") this.#wait(comment[0].toUpperCase() + comment.slice(1));
  }

  comeBack(why, seconds, held) {
    this.element.classList.remove("writing");
    const words = `${why}${held ? " A place is held for you." : ""} Trying again`;
    this.#wait(words, seconds, (left) => ` in ${left}`);
  }

  // A record of the answer.
  add(chunk) {
    const delta = chunk.choices?.[0]?.delta ?? {};
    if (delta.reasoning_content) this.#think(delta.reasoning_content);
    if (delta.content) this.#write(delta.content);
    if (this.#first === null && (delta.content || delta.reasoning_content)) {
      this.#first = performance.now();
      this.#state = "";
      this.say("");
    }
    if (chunk.choices?.[0]?.finish_reason === "length") this.say("It ended at its limit of tokens or time.");
  }

  // Once a second: what is waited for, and for how long.
  tick() {
    if (!this.#state) return;
    const left = this.#due === null ? null : (this.#due - performance.now()) / 1000;
    const ahead = left === null ? "" : left > 0 ? this.#ahead(whole(left)) : ", any moment now";
    const soFar = (performance.now() - this.#sentAt) / 1000;
    this.say(`${this.#state}${ahead}${soFar >= 1 ? ` · ${whole(Math.floor(soFar))} so far` : ""}`);
  }

  say(words) {
    this.#facts.replaceChildren(words);
  }

  fail(words) {
    this.#broken = true;
    this.#state = "";
    this.element.classList.add("broken");
    this.say(words);
  }

  offer(label, chosen) {
    const button = make("button", "plain", label);
    button.type = "button";
    button.addEventListener("click", chosen);
    this.element.append(button);
  }

  end() {
    this.#state = "";
    this.element.classList.remove("writing");
  }

  facts(words, draw) {
    const bar = document.createElementNS(SVG, "svg");
    for (const [name, value] of [["class", "bar"], ["role", "img"], ["viewBox", "0 0 100 10"], ["preserveAspectRatio", "none"]]) {
      bar.setAttribute(name, value);
    }
    draw(bar);
    const said = this.#facts.textContent;
    this.#facts.replaceChildren(bar, make("span", "", [said, words].filter(Boolean).join(" ")));
  }

  #wait(state, seconds = null, ahead = null) {
    this.#state = state;
    this.#ahead = ahead;
    this.#due = seconds === null ? null : performance.now() + seconds * 1000;
    this.tick();
  }

  #write(piece) {
    this.#text += piece;
    this.#written.appendData(piece);
  }

  #think(piece) {
    if (!this.#thought) {
      this.#thought = new Text();
      const details = make("details", "", make("summary", "", "Its thoughts"), make("div", "text", this.#thought));
      this.element.querySelector(".text").before(details);
    }
    this.#thought.appendData(piece);
  }
}
