// The browser's own EventSource, on a page of another origin.

export function read(edge, tell, { withCredentials = false } = {}) {
  const source = new EventSource(`${edge}/v1/stream?user=42&cursor=oldest&event=message`, { withCredentials });
  source.onmessage = ({ type, data }) => tell(type, data);
  source.addEventListener("push.gap", ({ type, data }) => tell(type, data));
}
