// Small helpers over the DOM, used by every view here. Not a framework: nothing is kept or compared.

/**
 * The element with this id, which the page must have.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return found;
}

/**
 * The first element under `root` that matches, which must be there.
 * @template {HTMLElement} T
 * @param {ParentNode} root
 * @param {string} selector
 * @param {new () => T} type
 * @returns {T}
 */
export function pick(root, selector, type) {
  const found = root.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`no ${type.name} matches ${selector}`);
  return found;
}

/**
 * A new element. Text is always set as text, never as markup.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, className = '', ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * A button that puts a text on the clipboard and says so for a moment.
 * @param {string} label what is copied, for those who cannot see where the button stands
 * @param {() => string} text
 * @returns {HTMLButtonElement}
 */
export function copyButton(label, text) {
  const button = el('button', 'copy', 'Copy');
  button.type = 'button';
  button.setAttribute('aria-label', `Copy ${label}`);
  button.addEventListener('click', async () => {
    button.textContent = (await copy(text())) ? 'Copied' : 'Failed';
    setTimeout(() => { button.textContent = 'Copy'; }, 1200);
  });
  return button;
}

/** @param {string} text */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/**
 * The clipboard API exists only on secure origins; a development server on a LAN address is none.
 * @param {string} text
 */
function copyBySelection(text) {
  const area = el('textarea', 'offscreen');
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  return done;
}

/** @param {number} value */
export function grouped(value) {
  return value.toLocaleString('en-US');
}

/**
 * "1 event", "2 events".
 * @param {number} value
 * @param {string} noun
 */
export function counted(value, noun) {
  return `${grouped(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** @param {number} value bytes */
export function bytesText(value) {
  if (value >= 1 << 20) return `${grouped(Math.round(value / (1 << 20)))} MiB`;
  if (value >= 1 << 10) return `${grouped(Math.round(value / (1 << 10)))} KiB`;
  return `${grouped(value)} B`;
}
