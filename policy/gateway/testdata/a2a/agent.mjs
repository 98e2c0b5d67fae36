// An agent on the SDK's server. What it is told decides what it does.
import express from 'express';
import { load, message, partOf, state, text, wire } from './sdk.mjs';

const [version, port] = process.argv.slice(2);
const sdk = await load(version);
const base = `http://127.0.0.1:${port}`;
const card = {
  name: 'conformer', description: 'Does as it is told.', version: '1', defaultInputModes: ['text/plain'], defaultOutputModes: ['text/plain'],
  skills: [{ id: 's', name: 'S', description: 'Does.', tags: ['t'] }], capabilities: { streaming: true, pushNotifications: false },
  ...(sdk.old ? { protocolVersion: '0.3.0', url: base + '/rpc' }
    : { supportedInterfaces: [{ url: base + '/rpc', protocolBinding: 'JSONRPC', protocolVersion: '1.0' }] }),
};

const put = (bus, kind, d) => sdk.old
  ? bus.publish({ kind: { task: 'task', message: 'message', statusUpdate: 'status-update', artifactUpdate: 'artifact-update' }[kind], ...d })
  : bus.publish(sdk.server.AgentEvent[kind](d));
const asTask = (t) => sdk.old ? t : sdk.core.Task.fromJSON(t);
const asArtifact = (a) => sdk.old ? a : sdk.core.Artifact.fromJSON(a);
const canceled = new Set();

class Executor {
  async execute(ctx, bus) {
    const { taskId, contextId } = ctx;
    const said = wire(sdk, ctx.userMessage);
    const order = said.parts.find((p) => p.text !== undefined)?.text ?? '';
    const status = (s, final, words) => put(bus, 'statusUpdate', {
      taskId, contextId, metadata: undefined, ...(sdk.old ? { final } : {}),
      status: { state: state(sdk, s), timestamp: undefined, message: words ? message(sdk, 'agent', [text(sdk, words)], { contextId, taskId }) : undefined },
    });
    const begin = () => put(bus, 'task', asTask({
      id: taskId, contextId, status: { state: sdk.old ? 'submitted' : 'TASK_STATE_SUBMITTED' }, history: [said] }));
    if (order.startsWith('echo')) {
      put(bus, 'message', message(sdk, 'agent', said.parts, { contextId, metadata: said.metadata }));
      return bus.finished();
    }
    if (!ctx.task || !sdk.old) begin();
    status('working', false);
    if (order === 'ask' && !ctx.task) {
      status('input-required', true, 'what else?');
      return bus.finished();
    }
    if (order === 'wait') {
      for (let i = 0; i < 500 && !canceled.has(taskId); i++) await new Promise((r) => setTimeout(r, 10));
      status(canceled.has(taskId) ? 'canceled' : 'completed', true);
      return bus.finished();
    }
    if (order === 'fail') {
      status('failed', true, 'as I was told');
      return bus.finished();
    }
    for (const [i, word] of ['one', 'two'].entries()) {
      put(bus, 'artifactUpdate', { taskId, contextId, append: i > 0, lastChunk: i > 0, metadata: undefined,
        artifact: asArtifact({ artifactId: 'a', name: 'words', parts: [text(sdk, word)] }) });
    }
    status('completed', true, said.parts.map(partOf).join('; '));
    bus.finished();
  }

  async cancelTask(taskId) { canceled.add(taskId); }
}

const handler = new sdk.server.DefaultRequestHandler(sdk.old ? card : sdk.core.AgentCard.fromJSON(card), new sdk.server.InMemoryTaskStore(), new Executor());
const app = express();
app.use('/.well-known/agent-card.json', sdk.web.agentCardHandler({ agentCardProvider: handler }));
app.use('/rpc', sdk.web.jsonRpcHandler({ requestHandler: handler, userBuilder: sdk.web.UserBuilder.noAuthentication }));
app.listen(Number(port), '127.0.0.1');
