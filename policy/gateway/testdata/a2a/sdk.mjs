// One face for the two lines of the A2A SDK, so that the same agent and the same
// scenarios run in both versions of the protocol.
const names = { '0.3': 'a2a-sdk-03', '1.0': '@a2a-js/sdk' };

export async function load(version) {
  const name = names[version];
  const [core, client, server, web] = await Promise.all([
    import(name), import(name + '/client'), import(name + '/server'), import(name + '/server/express')]);
  return { version, core, client, server, web, old: version === '0.3' };
}

export const text = (sdk, t) => sdk.old ? { kind: 'text', text: t } : { text: t };
export const data = (sdk, d) => sdk.old ? { kind: 'data', data: d } : { data: d };
export const file = (sdk, name, type, bytes) => sdk.old
  ? { kind: 'file', file: { name, mimeType: type, bytes } }
  : { raw: bytes, filename: name, mediaType: type };

// message makes one in the SDK's own form, from parts in wire form.
export function message(sdk, role, parts, more = {}) {
  const wire = { messageId: crypto.randomUUID(), role: sdk.old ? role : 'ROLE_' + role.toUpperCase(), parts, ...more };
  return sdk.old ? { kind: 'message', ...wire } : sdk.core.Message.fromJSON(wire);
}

// wire gives a message or task back in wire form.
export const wire = (sdk, x) => sdk.old ? x : ('status' in x ? sdk.core.Task : sdk.core.Message).toJSON(x);

export const state = (sdk, s) => sdk.old ? s : sdk.core.TaskState['TASK_STATE_' + s.toUpperCase().replace('-', '_')];

export const stateName = (s) => String(s).replace('TASK_STATE_', '').toLowerCase().replace('_', '-');

// sorted makes equal objects print equally.
const sorted = (x) => Array.isArray(x) ? x.map(sorted)
  : x && typeof x === 'object' ? Object.fromEntries(Object.keys(x).sort().map((k) => [k, sorted(x[k])])) : x;

export const partOf = (p) => p.text !== undefined ? 'text ' + p.text
  : p.data !== undefined ? 'data ' + JSON.stringify(sorted(p.data))
  : 'file ' + (p.file ? [p.file.name, p.file.mimeType, p.file.bytes] : [p.filename, p.mediaType, p.raw]).join(' ');
