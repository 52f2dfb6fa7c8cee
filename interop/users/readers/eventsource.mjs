// npm `eventsource`, as its README uses it.

import { EventSource } from "eventsource";

export function read(edge, tell) {
  const source = new EventSource(`${edge}/v1/stream?user=42&cursor=oldest&event=message`);
  source.onmessage = ({ type, data }) => tell(type, data);
  source.addEventListener("push.gap", ({ type, data }) => tell(type, data));
  return () => source.close();
}
