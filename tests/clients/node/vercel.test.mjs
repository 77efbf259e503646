// Vercel's AI SDK, as it is: the compatible provider, OpenAI's and Anthropic's.
import assert from "node:assert/strict";
import test from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import {
  GATEWAY, KEY, MODEL, SCRIPTED, TWO_CITIES, cosine, leavingFreesTheSlot,
} from "./gateway.mjs";

const at = (url) => {
  const settings = { baseURL: `${url}/v1`, apiKey: KEY };
  return {
    compatible: createOpenAICompatible({
      ...settings, name: "gateway", includeUsage: true, supportsStructuredOutputs: true,
    }),
    openai: createOpenAI(settings), // It asks for responses by default.
    anthropic: createAnthropic(settings),
  };
};
const real = at(GATEWAY);
const scripted = at(SCRIPTED);

const Person = z.object({ name: z.enum(["Ada", "Bob"]), age: z.int() });

const streamAddsUp = async (model) => {
  const asked = { model, prompt: "Count to five.", temperature: 0, maxOutputTokens: 16 };
  const whole = await generateText(asked);
  assert.ok(whole.text);
  const streamed = streamText(asked);
  let text = "";
  for await (const piece of streamed.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal(await streamed.finishReason, whole.finishReason);
  assert.equal((await streamed.usage).outputTokens, whole.usage.outputTokens);
  assert.ok(whole.usage.outputTokens > 0);
};

const objectFits = async (model) => {
  const { object } = await generateObject({
    model, schema: Person, prompt: "Ada is 36.", temperature: 0, maxOutputTokens: 64,
  });
  assert.ok(Person.safeParse(object).success);
};

const toolsAreRun = async (model) => {
  const weather = tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `rain in ${city}`,
  });
  const asked = { model, prompt: TWO_CITIES, tools: { weather }, stopWhen: stepCountIs(3) };
  const { text, steps } = await generateText(asked);
  assert.equal(steps.length, 2);
  assert.equal(text, "It is rain in Oslo and rain in Rome");
  assert.equal(await streamText(asked).text, text);
};

const thoughtsAreTold = async (model, providerOptions) => {
  const asked = { model, prompt: "hi", providerOptions };
  for (const told of [await generateText(asked), streamText(asked)]) {
    assert.equal(await told.reasoningText, "It was asked.");
    assert.equal(await told.text, "Forty-two.");
  }
};

const breakIsTold = async (model) => {
  const errors = [];
  const streamed = streamText({ model, prompt: "hi", onError: ({ error }) => errors.push(error) });
  let heard = "";
  for await (const piece of streamed.textStream) heard += piece;
  assert.equal(heard, "half an ans");
  assert.equal(errors.length, 1);
};

test("chat: a stream adds up to the whole", () => streamAddsUp(real.compatible(MODEL)));
test("responses: a stream adds up to the whole", () => streamAddsUp(real.openai(MODEL)));
test("messages: a stream adds up to the whole", () => streamAddsUp(real.anthropic(MODEL)));

test("chat objects: an answer fits", () => objectFits(real.compatible(MODEL)));
test("responses objects: an answer fits", () => objectFits(real.openai(MODEL)));
test("messages objects: an answer fits", () => objectFits(real.anthropic(MODEL)));

test("chat tools: they are run", () => toolsAreRun(scripted.compatible("calls")));
test("responses tools: they are run", () => toolsAreRun(scripted.openai("calls")));
test("messages tools: they are run", () => toolsAreRun(scripted.anthropic("calls")));

test("chat thinking: it is told apart", () => thoughtsAreTold(scripted.compatible("thinks")));
test("responses thinking: it is told apart", () =>
  thoughtsAreTold(scripted.openai("thinks"), {
    openai: { reasoningSummary: "auto", forceReasoning: true },
  }));
test("messages thinking: it is told apart", () =>
  thoughtsAreTold(scripted.anthropic("thinks"), {
    anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } },
  }));

test("broken chat: it is an error", () => breakIsTold(scripted.compatible("breaks")));
test("broken response: it is an error", () => breakIsTold(scripted.openai("breaks")));
test("broken message: it is an error", () => breakIsTold(scripted.anthropic("breaks")));

test("completions: the text goes on", async () => {
  const { text } = await generateText({
    model: real.compatible.completionModel(MODEL), prompt: "One, two, three,",
    temperature: 0, maxOutputTokens: 12,
  });
  assert.ok(text);
});

test("embeddings: each text has its vector", async () => {
  const values = ["The cat sat on the mat.", "Interest rates rose again."];
  const { embeddings } = await embedMany({
    model: real.compatible.textEmbeddingModel(MODEL), values,
  });
  assert.ok(cosine(...embeddings) < 0.99);
  const other = await embedMany({ model: real.openai.textEmbeddingModel(MODEL), values });
  assert.ok(cosine(embeddings[0], other.embeddings[0]) > 0.999);
});

test("retries: it comes back when it was told to", async () => {
  const { text } = await generateText({
    model: scripted.compatible("busy"), prompt: "Now?", maxRetries: 1,
  });
  assert.equal(text, "At last.");
});

test("abort: it frees the slot", async () => {
  const leave = new AbortController();
  const { textStream } = streamText({
    model: scripted.compatible("slow"), prompt: "Go on.", abortSignal: leave.signal,
  });
  await leavingFreesTheSlot(textStream, () => leave.abort());
});
