// An agent on the official MCP and OpenAI SDKs. It asks a model what to do, calls
// tools for it, and feeds every result back, until the model calls nothing more.
//
// It knows nothing of Omega: where model and tools are comes from environment
// variables, and a refused call is one more result for the model to read.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import OpenAI from "openai";

const maxTurns = 16;
const system = "You are a planner. Use the tools you are given. If a tool call is refused, read the reason and find another way.";
const task = "Plan the next quarter: read the brief, take what you need about staff costs, and append a note with the plan.";

// connect opens a session with each server of MCP_SERVERS, a JSON object of name
// and URL, and returns the tools as the model sees them, by SERVER__TOOL.
async function connect(servers) {
  const tools = new Map();
  for (const [server, url] of Object.entries(servers).sort()) {
    const client = new Client({ name: "example-agent", version: "1.0.0" });
    await client.connect(new StreamableHTTPClientTransport(new URL(url)));
    for (const tool of (await client.listTools()).tools) {
      tools.set(`${server}__${tool.name}`, { client, tool });
    }
  }
  return tools;
}

// call runs one tool call. Whatever goes wrong becomes text for the model.
async function call(tools, { name, arguments: text }) {
  console.log(`call ${name} ${text}`);
  try {
    const { client, tool } = tools.get(name) ?? {};
    if (!client) throw new Error(`no tool named ${name}`);
    const result = await client.callTool({ name: tool.name, arguments: JSON.parse(text) });
    const said = result.content.map((part) => part.text ?? "").join("\n");
    if (result.isError) throw new Error(said);
    console.log(`result: ${Buffer.byteLength(said)} bytes`);
    return said;
  } catch (error) {
    console.log(`refused: ${error.message}`);
    return `error: ${error.message}`;
  }
}

async function run() {
  const tools = await connect(JSON.parse(process.env.MCP_SERVERS));
  const functions = [...tools].map(([name, { tool }]) => ({
    type: "function",
    function: { name, description: tool.description, parameters: tool.inputSchema },
  }));
  const messages = [{ role: "system", content: system }, { role: "user", content: task }];
  const model = new OpenAI(); // OPENAI_BASE_URL and OPENAI_API_KEY
  for (let turn = 0; turn < maxTurns; turn++) {
    const completion = await model.chat.completions.create({ model: process.env.AGENT_MODEL, messages, tools: functions });
    const message = completion.choices[0].message;
    if (!message.tool_calls?.length) return message.content;
    messages.push(message);
    for (const { id, function: f } of message.tool_calls) {
      messages.push({ role: "tool", tool_call_id: id, content: await call(tools, f) });
    }
  }
  throw new Error("the model asked for more turns than an agent may take");
}

console.log("done:", await run());
process.exit(0); // open sessions would keep it
