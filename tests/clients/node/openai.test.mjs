// openai (npm), as it is.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  GATEWAY, KEY, MODEL, SCRIPTED, TWO_CITIES, WEATHER, cosine, leavingFreesTheSlot, user,
} from "./gateway.mjs";

const connect = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0 });
const client = connect(GATEWAY);
const scripted = connect(SCRIPTED);

const Person = z.object({ name: z.enum(["Ada", "Bob"]), age: z.int() });
const tools = [{ type: "function", function: { name: "get_weather", parameters: WEATHER } }];

test("chat stream: it adds up to the whole answer", async () => {
  const asked = {
    model: MODEL, messages: user("Count to five."), temperature: 0, seed: 1, max_tokens: 16,
  };
  const whole = await client.chat.completions.create(asked);
  assert.ok(whole.choices[0].message.content);
  const runner = client.chat.completions.stream({
    ...asked, stream_options: { include_usage: true },
  });
  const streamed = await runner.finalChatCompletion();
  assert.equal(streamed.choices[0].message.content, whole.choices[0].message.content);
  assert.equal(streamed.choices[0].finish_reason, whole.choices[0].finish_reason);
  assert.equal(streamed.usage.completion_tokens, whole.usage.completion_tokens);
});

test("tools: the arguments of a forced call fit", async () => {
  const { choices } = await client.chat.completions.create({
    model: MODEL, messages: user("Weather in Oslo?"), tools, max_tokens: 64,
    tool_choice: { type: "function", function: { name: "get_weather" } },
  });
  const [call] = choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Oslo" });
  assert.equal(choices[0].finish_reason, "tool_calls");
});

test("runTools: parallel calls are run and their results told", async () => {
  const cities = [];
  const weather = {
    name: "get_weather",
    parameters: WEATHER,
    parse: JSON.parse,
    function: ({ city }) => (cities.push(city), `rain in ${city}`),
  };
  const runner = scripted.chat.completions.runTools({
    model: "calls", messages: user(TWO_CITIES), stream: true,
    tools: [{ type: "function", function: weather }],
  });
  assert.equal(await runner.finalContent(), "It is rain in Oslo and rain in Rome");
  assert.deepEqual(cities, ["Oslo", "Rome"]);
});

test("parse: an answer is an object that fits", async () => {
  const { choices } = await client.chat.completions.parse({
    model: MODEL, messages: user("Ada is 36."), temperature: 0, max_tokens: 64,
    response_format: zodResponseFormat(Person, "person"),
  });
  assert.ok(Person.safeParse(choices[0].message.parsed).success);
});

test("embeddings: base64 and numbers are the same vectors", async () => {
  const input = ["The cat sat on the mat.", "Interest rates rose again."];
  const sent = await client.embeddings.create({ model: MODEL, input });
  const plain = await client.embeddings.create({ model: MODEL, input, encoding_format: "float" });
  assert.equal(sent.data.length, 2);
  for (const [i, { embedding }] of sent.data.entries()) {
    assert.equal(embedding.length, plain.data[i].embedding.length);
    assert.ok(cosine(embedding, plain.data[i].embedding) > 0.999);
  }
  assert.ok(cosine(sent.data[0].embedding, sent.data[1].embedding) < 0.99);
});

test("completions: a stream adds up to the whole", async () => {
  const asked = { model: MODEL, prompt: "One, two, three,", temperature: 0, max_tokens: 12 };
  const whole = await client.completions.create(asked);
  assert.match(whole.choices[0].text, /four/i);
  let text = "";
  for await (const { choices } of await client.completions.create({ ...asked, stream: true }))
    text += choices[0]?.text ?? "";
  assert.equal(text, whole.choices[0].text);
});

test("responses: a stream adds up to the whole", async () => {
  const asked = { model: MODEL, input: "Count to five.", temperature: 0, max_output_tokens: 16 };
  const whole = await client.responses.create(asked);
  assert.ok(whole.output_text);
  let text = "";
  const stream = client.responses.stream(asked);
  stream.on("response.output_text.delta", ({ delta }) => (text += delta));
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.equal(final.output_text, whole.output_text);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("responses parse: an answer is an object that fits", async () => {
  const { output_parsed } = await client.responses.parse({
    model: MODEL, input: "Ada is 36.", temperature: 0, max_output_tokens: 64,
    text: { format: zodTextFormat(Person, "person") },
  });
  assert.ok(Person.safeParse(output_parsed).success);
});

test("responses tools: calls go there and their results back", async () => {
  const asked = {
    model: "calls", input: user(TWO_CITIES),
    tools: [{ type: "function", name: "get_weather", parameters: WEATHER, strict: true }],
  };
  const { output } = await scripted.responses.create(asked);
  assert.deepEqual(
    output.map(({ name, arguments: given }) => [name, JSON.parse(given)]),
    [["get_weather", { city: "Oslo" }], ["get_weather", { city: "Rome" }]],
  );
  const results = output.map(({ call_id, arguments: given }) => (
    { type: "function_call_output", call_id, output: JSON.parse(given).city }
  ));
  const told = await scripted.responses.create({
    ...asked, input: [...asked.input, ...output, ...results],
  });
  assert.equal(told.output_text, "It is Oslo and Rome");
});

test("models: the list has the model, and it can be asked for", async () => {
  const ids = [];
  for await (const { id } of client.models.list()) ids.push(id);
  assert.ok(ids.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test("abort: it frees the slot", async () => {
  const stream = await scripted.chat.completions.create({
    model: "slow", messages: user("Go on."), stream: true,
  });
  await leavingFreesTheSlot(stream, () => stream.controller.abort());
});

test("retries: it comes back when it was told to", async () => {
  const patient = scripted.withOptions({ maxRetries: 1 });
  const { choices } = await patient.chat.completions.create({
    model: "busy", messages: user("Now?"),
  });
  assert.equal(choices[0].message.content, "At last.");
});

test("errors: each is the class of its status, with its code", async () => {
  const messages = user("hi");
  await assert.rejects(client.chat.completions.create({ model: "nobody", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(
    client.chat.completions.create({ model: MODEL, messages, temperature: "hot" }),
    OpenAI.UnprocessableEntityError,
  );
  await assert.rejects(
    client.withOptions({ apiKey: "sk-wrong" }).models.list(), OpenAI.AuthenticationError,
  );
});

test("broken stream: it throws", async () => {
  let heard = "";
  await assert.rejects(async () => {
    const asked = { model: "breaks", messages: user("hi"), stream: true };
    for await (const { choices } of await scripted.chat.completions.create(asked))
      heard += choices[0]?.delta.content ?? "";
  }, OpenAI.APIError);
  assert.equal(heard, "half an ans");
});

test("broken response: it throws", async () => {
  let heard = "";
  await assert.rejects(async () => {
    const stream = await scripted.responses.create({ model: "breaks", input: "hi", stream: true });
    for await (const event of stream) heard += event.delta ?? "";
  }, OpenAI.APIError);
  assert.equal(heard, "half an ans");
});
