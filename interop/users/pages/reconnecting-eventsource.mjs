// npm `reconnecting-eventsource`: the browser's own one, opened anew with `lastEventId=` in the URL when it gave up.

import ReconnectingEventSource from "reconnecting-eventsource";

export function read(edge, tell) {
  const source = new ReconnectingEventSource(`${edge}/v1/stream?user=42&cursor=oldest&event=message`);
  source.onmessage = ({ type, data }) => tell(type, data);
  source.addEventListener("push.gap", ({ type, data }) => tell(type, data));
}
