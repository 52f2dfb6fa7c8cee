// The browser's own EventSource that sends cookies across origins, which asks more of the answer.

import { read as readWithout } from "./eventsource.mjs";

export const read = (edge, tell) => readWithout(edge, tell, { withCredentials: true });
