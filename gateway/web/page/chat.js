// A chat to try a model with. What a model writes is only ever put in as text.

import { count, draw, duration, speed } from "./fill.js";
import { call, records, Refusal, wait } from "./net.js";
import { Turn } from "./turn.js";

const TRIES_MAX = 10;
const PHASES = ["queue", "load", "prefill", "decode"];
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
const $ = (id) => document.getElementById(id);

// Who reads further up is left there.
const atTheEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 48;
const follow = () => scrollTo(0, document.documentElement.scrollHeight);

// `announce` tells what happens to those who can't see it; `refused` that a key is wanted.
export class Chat {
  #announce;
  #refused;
  #turns = [];
  #running = null;

  constructor({ announce, refused }) {
    this.#announce = announce;
    this.#refused = refused;
    $("compose").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("message").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    $("chat").addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
    $("stop").addEventListener("click", () => this.stop());
    $("clear").addEventListener("click", () => this.#clear());
    $("options").open = matchMedia("(min-width: 56rem)").matches;
    $("settings").addEventListener("submit", (event) => event.preventDefault());
  }

  // The models that this key may ask for.
  async listModels() {
    const list = $("model");
    try {
      const { data } = await (await call("v1/models")).json();
      const names = ["default", ...data.map((model) => model.id)];
      const chosen = names.includes(list.value) ? list.value : "default";
      list.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
    } catch (error) {
      if (error instanceof Refusal) this.#refused(error);
    }
  }

  stop() {
    this.#running?.abort();
  }

  #clear() {
    this.stop();
    for (const turn of this.#turns.splice(0)) turn.element.remove();
    $("chat-empty").hidden = false;
    $("message").focus();
  }

  #send() {
    const text = $("message").value.trim();
    if (!text || this.#running) return;
    $("message").value = "";
    $("chat-empty").hidden = true;
    this.#say(new Turn("user", "You", text));
    this.#ask();
  }

  #say(turn) {
    this.#turns.push(turn);
    $("turns").append(turn.element);
    follow();
    return turn;
  }

  async #ask() {
    const stop = (this.#running = new AbortController());
    const body = this.#body();
    const turn = this.#say(new Turn("assistant", body.model));
    const clock = setInterval(() => turn.tick(), 1000);
    this.#busy(true);
    try {
      await this.#answer(turn, body, stop.signal);
      this.#announce("The answer is complete.");
    } catch (error) {
      this.#broke(turn, error, stop.signal);
    } finally {
      clearInterval(clock);
      this.#running = null;
      this.#busy(false);
      turn.end();
    }
    await this.#facts(turn);
  }

  // Comes back as often as the gateway says that this can help, to the place that it holds.
  async #answer(turn, body, signal) {
    for (let triesLeft = TRIES_MAX, place = ""; ; triesLeft--) {
      try {
        return await this.#stream(turn, body, place, signal);
      } catch (error) {
        if (!(error instanceof Refusal) || !error.worthRetrying || triesLeft <= 1) throw error;
        place = error.place;
        this.#announce(`${error.message} It is tried again in ${Math.ceil(error.retryAfterS)} s.`);
        turn.comeBack(error.message, error.retryAfterS, Boolean(place));
        await wait(error.retryAfterS, signal);
      }
    }
  }

  async #stream(turn, body, place, signal) {
    turn.id = crypto.getRandomValues(new Uint32Array(3)).join("-");
    turn.sent();
    const headers = { "x-request-id": turn.id, ...(place && { "x-gateway-place": place }) };
    const response = await call("v1/chat/completions", { body, headers, signal });
    for await (const { comment, data } of records(response)) {
      if (comment) turn.waits(comment);
      if (!data || data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      const following = atTheEnd();
      turn.add(chunk);
      if (following) follow();
    }
  }

  #broke(turn, error, signal) {
    if (signal.aborted) {
      turn.say("Stopped.");
      this.#announce("Stopped.");
      return;
    }
    turn.fail(error instanceof TypeError ? "The gateway does not answer." : error.message);
    turn.offer("Try again", () => {
      this.#turns.splice(this.#turns.indexOf(turn), 1);
      turn.element.remove();
      this.#ask();
    });
    this.#announce(error.message);
    if (error instanceof Refusal) this.#refused(error);
  }

  // Where its time went, as the gateway has it.
  async #facts(turn) {
    try {
      const told = await (await call(`v1/requests/${turn.id}`)).json();
      const parts = Object.fromEntries(PHASES.map((phase) => [`${phase}_s`, told[`${phase}_ms`] / 1000]));
      const total = told.elapsed_ms / 1000;
      const { prompt_tokens: read, completion_tokens: written } = told.usage ?? {};
      const words = [`${duration(total)} in all, ${duration(parts.queue_s)} of it in the queue`];
      if (turn.firstS !== null) words.push(`first word after ${duration(turn.firstS)}`);
      if (written) {
        words.unshift(`${count(read)} tokens read, ${count(written)} written`);
        if (parts.decode_s > 0) words.push(`${speed(written / parts.decode_s)} tokens/s`);
      }
      turn.facts(words.join(" · "), (svg) => draw(svg, PHASES, parts, Math.max(total, 0.001)));
    } catch {
      // It is told of nowhere; the answer stands without it.
    }
  }

  #body() {
    const messages = this.#turns.filter((turn) => turn.counts).map((turn) => turn.message);
    const system = $("system").value.trim();
    if (system) messages.unshift({ role: "system", content: system });
    const body = { model: $("model").value || "default", messages, stream: true };
    for (const name of NUMBERS) if ($(name).value !== "") body[name] = Number($(name).value);
    return body;
  }

  #busy(busy) {
    $("send").hidden = busy;
    $("stop").hidden = !busy;
    // The focus goes along with the button that goes.
    if (busy && document.activeElement === $("send")) $("stop").focus();
    if (!busy && [$("stop"), document.body].includes(document.activeElement)) $("message").focus();
  }
}
