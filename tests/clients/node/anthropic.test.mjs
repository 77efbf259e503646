// @anthropic-ai/sdk, as it is.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import {
  GATEWAY, KEY, MODEL, SCRIPTED, TWO_CITIES, WEATHER, leavingFreesTheSlot, user,
} from "./gateway.mjs";

const connect = (baseURL) => new Anthropic({ baseURL, apiKey: KEY, maxRetries: 0 });
const client = connect(GATEWAY);
const scripted = connect(SCRIPTED);

const Person = z.object({ name: z.enum(["Ada", "Bob"]), age: z.int() });
const tools = [{ name: "get_weather", description: "The weather", input_schema: WEATHER }];

test("stream: it adds up to the whole message", async () => {
  const asked = { model: MODEL, messages: user("Count to five."), temperature: 0, max_tokens: 16 };
  const whole = await client.messages.create(asked);
  assert.ok(whole.content[0].text);
  let text = "";
  const stream = client.messages.stream(asked).on("text", (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, whole.content[0].text);
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("tools: the input of a forced call fits", async () => {
  const message = await client.messages.create({
    model: MODEL, messages: user("Weather in Oslo?"), max_tokens: 64, tools,
    tool_choice: { type: "tool", name: "get_weather" },
  });
  const [call] = message.content;
  assert.deepEqual([call.name, call.input], ["get_weather", { city: "Oslo" }]);
  assert.equal(message.stop_reason, "tool_use");
});

test("parallel tools: calls go there and their results back", async () => {
  const asked = { model: "calls", max_tokens: 64, tools, messages: user(TWO_CITIES) };
  const { role, content } = await scripted.messages.stream(asked).finalMessage();
  assert.deepEqual(content.map(({ input }) => input.city), ["Oslo", "Rome"]);
  const results = content.map(({ id, input }) => (
    { type: "tool_result", tool_use_id: id, content: input.city }
  ));
  const told = await scripted.messages.create({
    ...asked,
    messages: [...asked.messages, { role, content }, { role: "user", content: results }],
  });
  assert.equal(told.content[0].text, "It is Oslo and Rome");
});

test("parse: an answer is an object that fits", async () => {
  const { parsed_output } = await client.messages.parse({
    model: MODEL, max_tokens: 64, messages: user("Ada is 36."),
    output_config: { format: zodOutputFormat(Person) },
  });
  assert.ok(Person.safeParse(parsed_output).success);
});

test("thinking: it is a block of its own", async () => {
  const asked = {
    model: "thinks", max_tokens: 2048, messages: user("hi"),
    thinking: { type: "enabled", budget_tokens: 1024 },
  };
  const whole = await scripted.messages.create(asked);
  const streamed = await scripted.messages.stream(asked).finalMessage();
  for (const { content } of [whole, streamed]) {
    assert.equal(content[0].thinking, "It was asked.");
    assert.equal(content[1].text, "Forty-two.");
  }
});

test("count tokens: it is what the message then takes", async () => {
  const asked = { model: MODEL, messages: user("How many tokens is this?") };
  const { input_tokens } = await client.messages.countTokens(asked);
  const { usage } = await client.messages.create({ ...asked, max_tokens: 1 });
  assert.equal(input_tokens, usage.input_tokens + (usage.cache_read_input_tokens ?? 0));
});

test("errors: each is the class of its status", async () => {
  const asked = { model: MODEL, max_tokens: 8, messages: user("hi") };
  await assert.rejects(client.messages.create({ ...asked, model: "nobody" }), (error) => {
    assert.ok(error instanceof Anthropic.NotFoundError);
    assert.equal(error.error.error.type, "not_found_error");
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(
    client.messages.create({ ...asked, messages: [] }), Anthropic.BadRequestError,
  );
  await assert.rejects(
    client.withOptions({ apiKey: "sk-wrong" }).messages.create(asked),
    Anthropic.AuthenticationError,
  );
});

test("retries: it comes back when it was told to", async () => {
  const patient = scripted.withOptions({ maxRetries: 1 });
  const { content } = await patient.messages.create({
    model: "busy", max_tokens: 8, messages: user("Now?"),
  });
  assert.equal(content[0].text, "At last.");
});

test("abort: it frees the slot", async () => {
  const stream = scripted.messages.stream({
    model: "slow", max_tokens: 4096, messages: user("Go on."),
  });
  await leavingFreesTheSlot(stream, () => stream.abort());
  assert.ok(stream.aborted);
});

test("broken stream: it throws", async () => {
  let heard = "";
  const stream = scripted.messages.stream({
    model: "breaks", max_tokens: 64, messages: user("hi"),
  });
  stream.on("text", (piece) => (heard += piece));
  await assert.rejects(stream.finalMessage(), Anthropic.APIError);
  assert.equal(heard, "half an ans");
});
