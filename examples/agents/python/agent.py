"""An agent on the official MCP and OpenAI SDKs, which other people and programs ask.

It knows nothing of Omega: where model and tools are comes from environment variables, and a refused call is one
more result for the model to read. It imports all that it needs and listens before anybody has asked anything, so
that it can be started ahead; what it asks of the gateway, it asks for a request.
"""

import asyncio
import json
import os
from contextlib import AsyncExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI

MAX_TURNS = 16
MAX_REQUEST = 1 << 20
SYSTEM = "You are a planner. Use the tools you are given. If a tool call is refused, read the reason and find another way."


async def connect(stack, servers):
    """Opens a session with each server and returns the tools as the model sees them, by SERVER__TOOL."""
    tools = {}
    for server, url in sorted(servers.items()):
        read, write, *_ = await stack.enter_async_context(streamable_http_client(url))
        session = await stack.enter_async_context(ClientSession(read, write))
        await session.initialize()
        for tool in (await session.list_tools()).tools:
            tools[f"{server}__{tool.name}"] = session, tool
    return tools


async def call(tools, name, text):
    """Runs one tool call. Whatever goes wrong becomes text for the model."""
    print("call", name, text, flush=True)
    try:
        session, tool = tools[name]
        result = await session.call_tool(tool.name, json.loads(text))
        said = "\n".join(getattr(part, "text", "") for part in result.content)
    except Exception as error:  # the model decides what becomes of it
        print("refused:", error, flush=True)
        return f"error: {error}"
    print("refused:" if result.isError else "result:", said if result.isError else f"{len(said)} characters", flush=True)
    return f"error: {said}" if result.isError else said


async def answer(task):
    async with AsyncExitStack() as stack:
        tools = await connect(stack, json.loads(os.environ.get("MCP_SERVERS", "{}")))
        functions = [
            {"type": "function", "function": {"name": name, "description": tool.description or "", "parameters": tool.inputSchema}}
            for name, (_, tool) in tools.items()
        ]
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]
        model = await stack.enter_async_context(AsyncOpenAI())  # OPENAI_BASE_URL and OPENAI_API_KEY
        for _ in range(MAX_TURNS):
            completion = await model.chat.completions.create(model=os.environ["AGENT_MODEL"], messages=messages, tools=functions)
            message = completion.choices[0].message
            if not message.tool_calls:
                return message.content
            messages.append(message.model_dump(exclude_none=True))
            for one in message.tool_calls:
                text = await call(tools, one.function.name, one.function.arguments)
                messages.append({"role": "tool", "tool_call_id": one.id, "content": text})
    raise RuntimeError("the model asked for more turns than an agent may take")


class Door(BaseHTTPRequestHandler):
    """Answers POST with what came of the task in the body, and GET /health."""

    def do_GET(self):
        self.reply(200 if self.path == "/health" else 404, "")

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_REQUEST:
            return self.reply(413, "too long")
        try:
            self.reply(200, asyncio.run(answer(self.rfile.read(size).decode())))
        except Exception as error:
            print("error:", error, flush=True)
            self.reply(500, str(error))

    def reply(self, status, text):
        body = (text or "").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Door).serve_forever()
