// The scenarios, with the SDK's client. Each prints one line: what came of it.
import { data, file, load, message, partOf, stateName, text, wire } from './sdk.mjs';

const [version, base] = process.argv.slice(2);
const sdk = await load(version);
const client = await new sdk.client.ClientFactory().createFromUrl(base);
const request = (parts, more, configuration) => sdk.old
  ? { message: message(sdk, 'user', parts, more), ...(configuration ? { configuration } : {}) }
  : sdk.core.SendMessageRequest.fromJSON({ message: sdk.core.Message.toJSON(message(sdk, 'user', parts, more)), ...(configuration ? { configuration } : {}) });
const say = (words, more, configuration) => request([text(sdk, words)], more, configuration);
const ask = (id, more = {}) => sdk.old ? { id, ...more } : { tenant: '', id, metadata: undefined, ...more };
const atOnce = sdk.old ? { blocking: false } : { returnImmediately: true };

// show puts an answer into words without its ids and times.
function show(answer) {
  const w = wire(sdk, answer);
  if (!w.status) return 'message ' + (w.parts ?? []).map(partOf).join('; ') + (w.metadata ? ' ' + JSON.stringify(w.metadata) : '');
  const said = w.status.message?.parts?.map(partOf).join('; ') ?? '';
  const artifacts = (w.artifacts ?? []).map((a) => a.name + ': ' + a.parts.map(partOf).join(', ')).join(' | ');
  return `task ${stateName(w.status.state)} [${said}] [${artifacts}] history ${(w.history ?? []).length}`;
}

// flow puts a stream into words.
async function flow(stream, each = () => {}) {
  const out = [];
  for await (const event of stream) {
    const [kind, e] = sdk.old ? [event.kind, event] : [event.payload.$case, event.payload.value];
    await each(kind, e);
    if (kind === 'task' || kind === 'message') out.push(show(e));
    else if (e.artifact) out.push('artifact ' + (sdk.old ? e.artifact : sdk.core.Artifact.toJSON(e.artifact)).parts.map(partOf).join(', ') + ' append ' + !!e.append);
    else out.push('status ' + stateName(sdk.old ? e.status.state : sdk.core.TaskState[e.status.state]));
  }
  return out.join(' > ');
}

const pause = (ms) => new Promise((r) => setTimeout(r, ms));
const code = (e) => e.code ?? e.cause?.code ?? e.errorResponse?.error?.code ?? (e.name === 'Error' ? e.message : e.name);

const scenarios = {
  'card': async () => { const c = await client.getAgentCard(); return [c.name, c.description, c.skills.length, c.capabilities.streaming].join(' '); },
  'a message': async () => show(await client.sendMessage(say('echo hello'))),
  'text in many scripts': async () => show(await client.sendMessage(say('echo ünïcödé \u{1F600} \u202e "quoted" \\ \n end'))),
  'data and a file': async () => show(await client.sendMessage(request([text(sdk, 'echo'), data(sdk, { b: [1, 2.5, null, true], a: { z: 'y' } }), file(sdk, 'f.txt', 'text/plain', 'aGVsbG8=')]))),
  'metadata': async () => show(await client.sendMessage(say('echo', { metadata: { k: { v: 1 } } }))),
  'a large message': async () => (await show(await client.sendMessage(say('echo ' + 'x'.repeat(60000))))).length,
  'a task to its end': async () => show(await client.sendMessage(say('work'))),
  'a task that fails': async () => show(await client.sendMessage(say('fail'))),
  'a stream of a message': async () => flow(client.sendMessageStream(say('echo stream'))),
  'a stream of a task': async () => flow(client.sendMessageStream(say('work'))),
  'a stream of a task that fails': async () => flow(client.sendMessageStream(say('fail'))),
  'getting a task': async () => show(await client.getTask(ask((await client.sendMessage(say('work'))).id))),
  'getting a task without history': async () => show(await client.getTask(ask((await client.sendMessage(say('work'))).id, { historyLength: 0 }))),
  'input in two turns': async () => {
    const first = await client.sendMessage(say('ask'));
    const second = await client.sendMessage(say('the rest', { taskId: first.id, contextId: first.contextId }));
    return show(first) + ' then ' + show(second) + ' same ' + (first.id === second.id);
  },
  'a second message in a context': async () => {
    const first = await client.sendMessage(say('work'));
    const second = await client.sendMessage(say('work', { contextId: first.contextId, referenceTaskIds: [first.id] }));
    return 'same context ' + (first.contextId === second.contextId) + ' another task ' + (first.id !== second.id);
  },
  'a context of the client\'s': async () => { const id = crypto.randomUUID(); return 'kept ' + ((await client.sendMessage(say('work', { contextId: id }))).contextId === id); },
  'canceling a task': async () => {
    const first = await client.sendMessage(say('wait', {}, atOnce));
    await pause(50);
    return show(await client.cancelTask(ask(first.id)));
  },
  'subscribing again': async () => {
    let id;
    const begun = (async () => flow(client.sendMessageStream(say('wait')), (kind, e) => { id ??= e.id ?? e.taskId; }))();
    while (!id) await pause(10);
    await pause(50);
    const again = flow(client.resubscribeTask(sdk.old ? { id } : { tenant: '', id }));
    await pause(100);
    await client.cancelTask(ask(id));
    return 'first ' + (await begun) + ' again ' + (await again).split(' > ').at(-1);
  },
  'a task that is not there': async () => { try { return show(await client.getTask(ask('nowhere'))); } catch (e) { return 'error ' + code(e); } },
  'canceling a task that is not there': async () => { try { return show(await client.cancelTask(ask('nowhere'))); } catch (e) { return 'error ' + code(e); } },
  'canceling a task that has ended': async () => {
    const t = await client.sendMessage(say('work'));
    try { return show(await client.cancelTask(ask(t.id))); } catch (e) { return 'error ' + code(e); }
  },
  'a message to a task that is not there': async () => { try { return show(await client.sendMessage(say('work', { taskId: 'nowhere' }))); } catch (e) { return 'error ' + code(e); } },
  'ten messages at once': async () => (await Promise.all([...Array(10)].map((_, i) => client.sendMessage(say('echo ' + i))))).map(show).sort().join(','),
};

for (const [name, run] of Object.entries(scenarios)) {
  try {
    console.log('✓ ' + name + ': ' + JSON.stringify(await run()));
  } catch (e) {
    console.log('✗ ' + name + ': ' + (e.stack ?? e).toString().split('\n').slice(0, 2).join(' '));
  }
}
process.exit(0);
