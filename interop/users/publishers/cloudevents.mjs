// npm `cloudevents`: the three modes of HTTP. The SDK has no sender of batches; one is a JSON array of its events.

import { CloudEvent, HTTP } from "cloudevents";

const send = async (url, { headers, body }) => (await fetch(url, { method: "POST", headers, body })).json();

/** Publishes each event in its turn: structured, binary, and the rest as a batch; answers with the results. */
export async function publish(hub, events) {
  const [structured, binary, ...batch] = events.map((event) => new CloudEvent(event));
  const url = `${hub}/v1/events`;
  const headers = { "content-type": "application/cloudevents-batch+json" };
  const answers = [
    await send(url, HTTP.structured(structured)),
    await send(url, HTTP.binary(binary)),
    await send(url, { headers, body: JSON.stringify(batch) }),
  ];
  return answers.flatMap((answer) => answer.results ?? answer);
}

/** What a reader was handed, read by the SDK, which validates it. */
export const parse = (data) => new CloudEvent(JSON.parse(data));
