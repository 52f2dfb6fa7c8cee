// What a cursor's text shows to a human. For display only: a client sends cursors back as they came and never reads them.

/**
 * @typedef {object} Position
 * @property {string} epoch one continuous life of the log
 * @property {number} seq the position in it (exact below 2^53, far beyond what a page meets)
 */

/**
 * @param {string | undefined} text
 * @returns {Position | null} null for a cursor of a version this page does not know
 */
export function parseCursor(text) {
  const parts = /^2\.([A-Za-z0-9_-]{22})\.([a-t])(0|[1-9][0-9]*)$/.exec(text ?? '');
  const counted = parts && parts[2].charCodeAt(0) - 96 === parts[3].length; // a letter for the number of digits
  return counted ? { epoch: parts[1], seq: Number(parts[3]) } : null;
}

/**
 * `2.Ab3x….57`: enough to tell two cursors apart at a glance.
 * @param {string} text
 */
export function shortCursor(text) {
  const position = parseCursor(text);
  if (position) return `2.${position.epoch.slice(0, 4)}….${position.seq}`;
  return text.length > 16 ? `${text.slice(0, 15)}…` : text;
}

/**
 * `#57`, or the short text when the position cannot be told.
 * @param {string} text
 */
export function positionText(text) {
  const position = parseCursor(text);
  return position ? `#${position.seq}` : shortCursor(text);
}
