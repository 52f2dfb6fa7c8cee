// What went wrong with a request, in the server's own words where it had any (RFC 9457, application/problem+json).

export class Problem extends Error {
  /** @param {{ status: number, title?: string, detail?: string, [member: string]: unknown }} members */
  constructor(members) {
    super(members.detail || members.title || `HTTP ${members.status}`);
    this.name = 'Problem';
    this.members = members;
    this.status = members.status;
  }
}

/**
 * @param {Response} answer one that is not ok
 * @returns {Promise<Problem>}
 */
export async function problemOf(answer) {
  const text = await answer.text();
  try {
    const json = JSON.parse(text);
    return new Problem({ ...json, status: answer.status });
  } catch {
    return new Problem({ status: answer.status, title: answer.statusText, detail: text.slice(0, 300) });
  }
}
