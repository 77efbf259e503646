// ollama (npm), as it is.
import assert from "node:assert/strict";
import test from "node:test";
import { Ollama } from "ollama";
import {
  GATEWAY, KEY, MODEL, SCRIPTED, TWO_CITIES, WEATHER, cosine, leavingFreesTheSlot, user,
} from "./gateway.mjs";

const connect = (host) => new Ollama({ host, headers: { Authorization: `Bearer ${KEY}` } });
const client = connect(GATEWAY);
const scripted = connect(SCRIPTED);

const tools = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];

test("chat stream: it adds up to the whole answer", async () => {
  const asked = {
    model: MODEL, messages: user("Count to five."),
    options: { temperature: 0, seed: 1, num_predict: 16 },
  };
  const whole = await client.chat(asked);
  assert.ok(whole.message.content);
  let text = "";
  let last;
  for await (last of await client.chat({ ...asked, stream: true })) text += last.message.content;
  assert.equal(text, whole.message.content);
  assert.ok(last.done);
  assert.equal(last.done_reason, whole.done_reason);
  assert.equal(last.eval_count, whole.eval_count);
  assert.ok(last.total_duration > 0);
});

test("generate: a stream adds up to the whole", async () => {
  const asked = {
    model: MODEL, prompt: "One, two, three,", raw: true,
    options: { temperature: 0, num_predict: 12 },
  };
  const whole = await client.generate(asked);
  assert.match(whole.response, /four/i);
  let text = "";
  for await (const { response } of await client.generate({ ...asked, stream: true }))
    text += response;
  assert.equal(text, whole.response);
});

test("format: an answer fits its schema", async () => {
  const format = {
    type: "object",
    properties: { name: { enum: ["Ada", "Bob"] }, age: { type: "integer" } },
    required: ["name", "age"],
  };
  const { message } = await client.chat({
    model: MODEL, messages: user("Ada is 36."), format,
    options: { temperature: 0, num_predict: 64 },
  });
  const person = JSON.parse(message.content);
  assert.ok(["Ada", "Bob"].includes(person.name));
  assert.ok(Number.isInteger(person.age));
});

test("tools: calls go there and their results back", async () => {
  const messages = user(TWO_CITIES);
  const { message } = await scripted.chat({ model: "calls", messages, tools });
  assert.deepEqual(
    message.tool_calls.map(({ function: { name, arguments: given } }) => [name, given.city]),
    [["get_weather", "Oslo"], ["get_weather", "Rome"]],
  );
  const results = message.tool_calls.map(({ function: { name, arguments: given } }) => (
    { role: "tool", tool_name: name, content: given.city }
  ));
  const told = await scripted.chat({
    model: "calls", messages: [...messages, message, ...results], tools,
  });
  assert.equal(told.message.content, "It is Oslo and Rome");
});

test("thinking: it is told apart", async () => {
  const { message } = await scripted.chat({ model: "thinks", messages: user("hi"), think: true });
  assert.equal(message.thinking, "It was asked.");
  assert.equal(message.content, "Forty-two.");
});

test("embed: near texts are near vectors", async () => {
  const input = ["The cat sat on the mat.", "A cat sits on a mat.", "Interest rates rose again."];
  const { embeddings } = await client.embed({ model: MODEL, input });
  assert.equal(embeddings.length, 3);
  const [near, far] = [1, 2].map((i) => cosine(embeddings[0], embeddings[i]));
  assert.ok(near > far, `${near} ${far}`);
});

test("list, show, ps: they know the model", async () => {
  const { models } = await client.list();
  const [listed] = models.filter(({ name }) => name === MODEL);
  assert.ok(listed.size > 1e6);
  const shown = await client.show({ model: MODEL });
  assert.ok(shown.capabilities.includes("completion"));
  const running = await client.ps();
  assert.deepEqual(running.models.map(({ name }) => name), [MODEL]);
  assert.ok((await client.version()).version);
});

test("errors: they have words and a status", async () => {
  await assert.rejects(client.chat({ model: "nobody", messages: user("hi") }), (error) => {
    assert.equal(error.status_code, 404);
    assert.match(error.message, /model/);
    return true;
  });
});

test("abort: it frees the slot", async () => {
  const stream = await scripted.chat({ model: "slow", messages: user("Go on."), stream: true });
  await leavingFreesTheSlot(stream, () => stream.abort());
});

test("broken stream: it throws", async () => {
  let heard = "";
  await assert.rejects(async () => {
    const stream = await scripted.chat({ model: "breaks", messages: user("hi"), stream: true });
    for await (const { message } of stream) heard += message.content;
  }, /engine/);
  assert.equal(heard, "half an ans");
});
