// npm `event-source-polyfill`: across origins it cannot set Last-Event-ID, and puts `lastEventId=` into the URL.

import "event-source-polyfill";

export function read(edge, tell) {
  const source = new EventSourcePolyfill(`${edge}/v1/stream?user=42&cursor=oldest&event=message`);
  source.onmessage = ({ type, data }) => tell(type, data);
  source.addEventListener("push.gap", ({ type, data }) => tell(type, data));
}
