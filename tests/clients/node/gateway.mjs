// What all scripts share: where the gateways are, and what they are asked.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

// In front of a real model, and of an engine whose answers are written down.
export const GATEWAY = process.env.GATEWAY_URL;
export const SCRIPTED = process.env.SCRIPTED_URL;
export const KEY = process.env.GATEWAY_KEY;
export const MODEL = process.env.GATEWAY_MODEL;

export const WEATHER = {
  type: "object",
  properties: { city: { type: "string", enum: ["Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};

// The scripted model `calls` has each of these objects as the arguments of one call.
export const TWO_CITIES = 'Weather? {"city": "Oslo"} {"city": "Rome"}';

export const user = (content) => [{ role: "user", content }];

export const cosine = (one, other) => {
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  return dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
};

const slotsBusy = async () => {
  const page = await fetch(`${SCRIPTED}/metrics`, { headers: { authorization: `Bearer ${KEY}` } });
  const values = [...(await page.text()).matchAll(/^gateway_slots_busy\S* (\d+)$/gm)];
  return values.reduce((sum, [, value]) => sum + Number(value), 0);
};

const slotsBusyBecome = async (wanted) => {
  for (let tries = 100; tries && (await slotsBusy()) !== wanted; tries--) await sleep(50);
  assert.equal(await slotsBusy(), wanted);
};

// Leaves a stream of the scripted gateway once it has begun.
export const leavingFreesTheSlot = async (stream, leave) => {
  const { done } = await stream[Symbol.asyncIterator]().next();
  assert.ok(!done);
  await slotsBusyBecome(1);
  leave();
  await slotsBusyBecome(0);
};
