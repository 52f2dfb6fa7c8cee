// What a reader handed to the program that uses it, by the way on which it came.

import { equal, waitUntil } from "./checks.mjs";

/** Every message is parsed as programs do it: as JSON, whatever it is. */
export class Heard {
  turns = new Map();
  kinds = new Map();
  troubles = [];

  constructor(ways) {
    for (const way of ways) {
      this.turns.set(way, []);
      this.kinds.set(way, []);
    }
  }

  /** `type` is the event's name on SSE and empty on WebSocket. */
  take(way, type, data) {
    try {
      const told = JSON.parse(data);
      const event = told.event ?? (told.specversion ? told : undefined);
      if (event) this.turns.get(way).push(event.data.turn);
      const kind = type.startsWith("push.") ? type.slice(5) : Object.keys(told).find((key) => key !== "cursor");
      if (!event) this.kinds.get(way).push(kind);
    } catch (error) {
      this.troubles.push(`${way}: ${error.message}: ${type} ${data.slice(0, 200)}`);
    }
  }

  complain(way, trouble) {
    this.troubles.push(`${way}: ${trouble}`);
  }

  /** How often it was told this, which is no event. */
  told(way, kind) {
    return this.kinds.get(way).filter((told) => told === kind).length;
  }

  /** Waits until every way has brought this turn. */
  async wait(turn) {
    const lacking = () => [...this.turns].filter(([, turns]) => !turns.includes(turn));
    const what = () => `turn ${turn} arrived: ${JSON.stringify(lacking())} ${this.troubles}`;
    await waitUntil(() => lacking().length === 0 || this.troubles.length > 0, what);
    equal(this.troubles, []);
  }

  /** Every turn came once and in order, on every way, and nobody was told a gap. */
  isWhole(count) {
    const all = Array.from({ length: count }, (_, turn) => turn);
    for (const [way, turns] of this.turns) {
      equal(turns, all, `turns ${way}: ${turns}`);
      equal(this.told(way, "gap"), 0, `${way}: told of a gap`);
    }
  }
}
