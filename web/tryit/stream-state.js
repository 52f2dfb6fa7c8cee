// The states a stream can be in, and what both streams take and give. Types and words only.

/**
 * @typedef {'connecting' | 'catching-up' | 'live' | 'behind' | 'backing-off' | 'cut' | 'stopped'} StateName
 */

/**
 * @typedef {object} State
 * @property {StateName} name
 * @property {string} [why] what happened, in a few words
 * @property {number} [until] for backing off: when the next attempt starts, Unix milliseconds
 */

/**
 * Whom to read as, asked again at each connection so that the newest cursor is presented.
 * @typedef {object} Ask
 * @property {string} user
 * @property {string[]} topics
 * @property {string} cursor
 */

/**
 * @typedef {object} Hooks
 * @property {() => Ask} ask
 * @property {(frame: import('./frame.js').Frame) => void} onFrame
 * @property {(state: State) => void} onState
 */

/**
 * @typedef {object} Stream
 * @property {() => void} open
 * @property {() => void} close
 * @property {(added: string[], removed: string[]) => void} changeTopics
 */

/** @type {Record<StateName, string>} */
export const STATE_TEXT = {
  connecting: 'connecting',
  'catching-up': 'catching up',
  live: 'live',
  behind: 'fell behind',
  'backing-off': 'backing off',
  cut: 'cut',
  stopped: 'stopped',
};

/**
 * How a frame changes the state of the stream that carried it, if it does.
 * @param {string} kind
 * @returns {StateName | null}
 */
export function stateAfter(kind) {
  if (kind === 'welcome') return 'catching-up';
  if (kind === 'caughtUp') return 'live';
  return kind === 'fellBehind' ? 'behind' : null;
}
