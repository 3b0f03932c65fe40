"""Drives a Flux server by the official Python client of the Model Context Protocol.

In both of its modes, over HTTP and over `flux mcp`: every tool, resources, subscriptions, the
prompt, a conflict, a wait that ends by a change and one that ends by its time, and progress. The
client checks each structured result against the schema that `tools/list` gives.

    client.py FLUX_BIN URL
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.shared.exceptions import MCPError

FLUX, URL = sys.argv[1], sys.argv[2]
# `auto` comes to 2026-07-28, and `legacy` to the last version that begins with `initialize`.
VERSIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}
TOOLS = "get list publish delete wait_for diff_since history at".split()
# Waits that end by a change have this long. None is expected to take it.
PATIENCE_SECONDS = 40


class Agent:
    """A client, and a prefix of ids that is its own."""

    def __init__(self, client: Client, space: str) -> None:
        self.client = client
        self.space = space

    async def tool(self, name: str, **arguments: Any) -> Any:
        """The structured result of a tool, which must not be a refusal."""
        result = await self.client.call_tool(f"flux_{name}", arguments)
        assert not result.is_error, (name, result)
        return self.same(result)

    async def refused(self, name: str, **arguments: Any) -> Any:
        """The structured result of a tool, which must be a refusal."""
        result = await self.client.call_tool(f"flux_{name}", arguments)
        assert result.is_error, (name, result)
        return self.same(result)

    @staticmethod
    def same(result: types.CallToolResult) -> Any:
        """The text of a result and its structure are the same."""
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        assert json.loads(content.text) == result.structured_content, result
        return result.structured_content


async def describe(agent: Agent, mode: str) -> None:
    client = agent.client
    assert client.protocol_version == VERSIONS[mode], client.protocol_version
    assert client.server_info is not None and client.server_info.name == "flux"
    assert "flux_publish" in (client.instructions or "")
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == [f"flux_{name}" for name in TOOLS], tools
    for tool in tools:
        assert tool.description and tool.output_schema and tool.annotations, tool
    (prompt,) = (await client.list_prompts()).prompts
    text = (await client.get_prompt(prompt.name, {"goal": "paint it"})).messages[0].content
    assert isinstance(text, types.TextContent) and text.text.endswith("paint it"), text


async def write_and_read(agent: Agent) -> None:
    prefix = f"{agent.space}/jobs/"
    a, b = f"{prefix}a", f"{prefix}b é"
    made = await agent.tool("publish", id=a, properties={"status": "open", "n": 1}, event_id=f"{a}-1")
    assert made["version"] == 1, made
    again = await agent.tool("publish", id=a, properties={"status": "open", "n": 1}, event_id=f"{a}-1")
    assert again["duplicate"] is True and again["version"] == 1, again
    claim = {"properties": {"status": "mine"}, "expect": {"properties": {"status": "open"}}}
    assert (await agent.tool("publish", id=a, **claim))["version"] == 2
    conflict = await agent.refused("publish", id=a, **claim)
    assert conflict["code"] == "precondition_failed", conflict
    assert conflict["entity"]["properties"]["status"] == "mine", conflict
    counted = await agent.tool("publish", id=a, increment={"n": 2}, append={"log": ["x"]})
    assert counted["properties"] == {"n": 3, "log": ["x"]}, counted
    await agent.tool("publish", id=b, properties={"status": "open"}, ttl=600)
    entity = (await agent.tool("get", id=b))["entity"]
    assert "expiresAt" in entity and entity["properties"] == {"status": "open"}, entity
    listed = await agent.tool("list", prefix=prefix, filter='eq(status,"open")')
    assert [it["id"] for it in listed["entities"]] == [b], listed
    page = await agent.tool("list", prefix=prefix, limit=1, fields=["n"])
    assert [it["properties"] for it in page["entities"]] == [{"n": 3}], page
    rest = await agent.tool("list", prefix=prefix, after=page["after"], limit=1)
    assert [it["id"] for it in rest["entities"]] == [b], rest

    events = (await agent.tool("history", id=a))["events"]
    assert len(events) == 3, events
    past = await agent.tool("at", time=events[-1]["acceptedAt"], id=a)
    assert past["entity"]["version"] == 1, past
    missed = await agent.tool("diff_since", since=made["cursor"], prefix=prefix)
    assert {it["entity_id"] for it in missed["changes"]} == {a, b}, missed
    assert "eventId" in await agent.tool("delete", id=b, expect={"present": True})
    gone = await agent.refused("get", id=b)
    assert gone["code"] == "entity_not_found", gone
    wrong = await agent.refused("get", id=a, colour="red")
    assert wrong["code"] == "invalid_argument", wrong


async def wait(agent: Agent) -> None:
    id = f"{agent.space}/waited"
    timed_out = await agent.tool("wait_for", id=id, timeout_seconds=0.2)
    assert timed_out["timed_out"] is True, timed_out
    waiting = asyncio.create_task(
        agent.tool("wait_for", id=id, since=timed_out["cursor"], timeout_seconds=PATIENCE_SECONDS)
    )
    # Whether this comes before the wait or after: with `since` nothing is missed.
    await agent.tool("publish", id=id, properties={"is": "there"})
    told = await waiting
    assert told["timed_out"] is False and told["changes"][0]["entity_id"] == id, told


async def progress(agent: Agent) -> None:
    told: list[float] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    arguments = {"id": f"{agent.space}/never", "timeout_seconds": 11}
    result = await agent.client.call_tool("flux_wait_for", arguments, progress_callback=tell)
    assert not result.is_error and Agent.same(result)["timed_out"] is True, result
    # One comes every ten seconds, and each says more than the one before.
    assert told[-1] >= 10 and told == sorted(set(told)), told


async def resources(agent: Agent, mode: str) -> None:
    client, id = agent.client, f"{agent.space}/resource"
    uri = f"flux://entity/{id}"
    await agent.tool("publish", id=id, properties={"n": 1})
    (template,) = (await client.list_resource_templates()).resource_templates
    assert template.uri_template == "flux://entity/{+id}", template
    found, cursor = set[str](), None
    while True:
        page = await client.list_resources(cursor=cursor)
        found |= {str(it.uri) for it in page.resources}
        cursor = page.next_cursor
        if not cursor:
            break
    assert uri in found, found
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, types.TextResourceContents), content
    assert json.loads(content.text)["properties"] == {"n": 1}, content
    try:
        await client.read_resource(f"{uri}/none")
    except MCPError as error:
        assert error.code == (-32602 if mode == "auto" else -32002), error
    else:
        raise AssertionError("a resource that is not there was read")
    if mode == "auto":
        await subscribe(agent, id, uri)


async def subscribe(agent: Agent, id: str, uri: str) -> None:
    async with agent.client.listen(resource_subscriptions=[uri]) as changes:
        for n in (2, 3):
            await agent.tool("publish", id=id, properties={"n": n})
            change = await asyncio.wait_for(anext(changes), PATIENCE_SECONDS)
            assert str(getattr(change, "uri", None)) == uri, change
            (content,) = (await agent.client.read_resource(uri, cache_mode="bypass")).contents
            assert isinstance(content, types.TextResourceContents)
            assert json.loads(content.text)["properties"] == {"n": n}, content
    # The connection is of use after the subscription has ended.
    await agent.tool("get", id=id)


async def all_of(way: str, mode: str) -> None:
    server: str | StdioServerParameters = f"{URL}/mcp"
    if way == "stdio":
        environment = {**os.environ, "FLUX_URL": URL}
        server = StdioServerParameters(command=FLUX, args=["mcp"], env=environment)
    async with Client(server, mode=mode) as client:
        agent = Agent(client, f"{way}-{mode}")
        await describe(agent, mode)
        await asyncio.gather(write_and_read(agent), wait(agent), progress(agent), resources(agent, mode))
    print(f"  {mode} ({VERSIONS[mode]}) over {way}: right")


async def main() -> None:
    ways = [(way, mode) for way in ("http", "stdio") for mode in VERSIONS]
    await asyncio.gather(*(all_of(way, mode) for way, mode in ways))


if __name__ == "__main__":
    asyncio.run(main())
