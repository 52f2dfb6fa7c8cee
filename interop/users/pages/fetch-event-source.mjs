// npm `@microsoft/fetch-event-source`: it hands over every block, and an error thrown there is a reconnect. With a token it
// asks first whether it may send `Authorization`.

import { fetchEventSource } from "@microsoft/fetch-event-source";

export function read(edge, tell, { token } = {}) {
  const query = token ? "cursor=oldest" : "user=42&cursor=oldest";
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  fetchEventSource(`${edge}/v1/stream?${query}`, {
    headers,
    openWhenHidden: true,
    onmessage: ({ event, data }) => tell(event, data),
    onclose: () => {
      throw new Error("come back"); // what its README says to do where the server's end is not the end
    },
  });
}
