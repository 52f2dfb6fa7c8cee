// The try-it page: puts the parts together. Served by a gateway in development mode; talks to that gateway only.
//
//   reader-form ──who──► panes ──frames──► tracker, frames-view, window-model ──► window-card, commands
//   publish-form ──events──► /v1/events ──answers──► panes (published since the cut), window-model (the head)

import { byId } from './dom.js';
import { hubToName, paintCommands } from './commands.js';
import { Pane } from './pane.js';
import { PublishForm } from './publish-form.js';
import { reaches } from './publish.js';
import { ReaderForm } from './reader-form.js';
import { SseStream } from './stream-sse.js';
import { WsStream } from './stream-ws.js';
import { WindowCard } from './window-card.js';
import { WindowModel } from './window-model.js';

byId('edge-address', HTMLElement).textContent = location.host;

const model = new WindowModel();

const reader = new ReaderForm({
  onReader: () => {
    for (const pane of panes) pane.restart();
    publishForm.paintPresets();
    repaint();
  },
  onTopics: (added, removed) => {
    for (const pane of panes) pane.changeTopics(added, removed);
    publishForm.paintPresets();
    repaint();
  },
});

const shared = {
  reader: () => reader,
  /** @param {import('./frame.js').Frame} frame */
  onFrame: (frame) => model.see(frame),
  onChange: () => repaint(),
};

const panes = [
  new Pane({
    ...shared, key: 'sse', title: 'EventSource', path: 'GET /v1/stream', stream: (hooks) => new SseStream(hooks),
  }),
  new Pane({
    ...shared, key: 'ws', title: 'WebSocket', path: 'GET /v1/ws', stream: (hooks) => new WsStream(hooks),
  }),
];

const windowCard = new WindowCard(model, panes, {
  onPublished: published,
  missedBy: () => (reader.user ? `user:${reader.user}` : 'all'),
});

const publishForm = new PublishForm({
  reader: () => reader,
  onPublished: published,
  onEdit: () => queueMicrotask(repaint),
});

/**
 * @param {import('./publish.js').CloudEvent[]} events
 * @param {import('./publish.js').PublishResult[]} results
 */
function published(events, results) {
  let all = 0;
  let mine = 0;
  results.forEach((result, index) => {
    model.enter(result.cursor);
    if (result.duplicate) return;
    all += 1;
    if (reaches(events[index].to, reader.user, reader.topics)) mine += 1;
  });
  for (const pane of panes) pane.published(all, mine);
  repaint();
}

let scheduled = false;
let hub = '';

/** What follows from everything else, at most once per animation frame. */
function repaint() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    windowCard.paint();
    paintCommands({ user: reader.user, topics: reader.topics, cursor: panes[0].tracker.cursor, hub, draft: publishForm.draft });
  });
}

for (const pane of panes) {
  pane.mount(byId('panes', HTMLElement));
  pane.restart();
}
repaint();
hub = await hubToName();
repaint();
