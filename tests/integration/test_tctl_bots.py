"""`tctl bots` against a real Auth Service."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from pkgs.common.api.bots import BotHeartbeat
from tests.integration.auth_kit import auth, run
from tests.integration.bots_kit import join, roles
from tests.integration.test_backup import tctl


def test_the_verbs_of_bots(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:

            async def ok(*words: str) -> str:
                done = await tctl(kit, *words)
                assert done.returncode == 0, done.stderr
                return done.stdout

            await roles(kit, "deployer", "reader")
            assert await ok("bots", "ls") == "No bots found\n"
            assert await ok("bots", "instances", "ls") == "No bot instances found\n"
            made = json.loads(
                await ok("bots", "add", "ci", "--roles=deployer", "--logins=root", "--format=json")
            )
            assert (made["bot_name"], made["user_name"], made["role_name"]) == ("ci", "bot-ci", "bot-ci")
            assert 3590 <= made["token_ttl"] <= 3600
            one = await join(kit, made["token_id"])
            await one.client.call(BotHeartbeat(hostname="runner1", version="1"))
            one = await one.renew()

            shown = await ok("bots", "ls")
            assert "bot-ci" in shown
            assert "tctl bots instances ls" in shown
            table = await ok("bots", "instances", "ls", "ci")
            assert f"ci/{one.id}" in table
            assert "2" in table.split()
            for words, count in (
                (["other"], 0),
                (["--search=runner,ci"], 1),
                (["--search=nothing"], 0),
                (['--query=resource.spec.bot_name == "ci"'], 1),
                (['--query=resource.spec.bot_name == "x"'], 0),
            ):
                found = json.loads(await ok("bots", "instances", "ls", "--format=json", *words))
                assert len(found) == count, words
            text = await ok("bots", "instances", "show", f"ci/{one.id}")
            assert "generation 2  by token  from 127.0.0.1" in text
            document = yaml.safe_load(await ok("bots", "instances", "show", f"ci/{one.id}", "--format=yaml"))
            assert document["kind"] == "bot_instance"

            text = await ok("bots", "instances", "add", "ci")
            token = text.splitlines()[0].removeprefix("The bot token: ")
            assert f"--token={token}" in text
            assert "60 minutes" in text
            await join(kit, token)

            await ok("bots", "update", "ci", "--add-roles=reader", "--set-logins=,")
            bot = json.loads(await ok("get", "bot/ci", "--format=json"))[0]
            assert bot["spec"]["roles"] == ["deployer", "reader"]
            assert "traits" not in bot["spec"]
            assert (await tctl(kit, "bots", "update", "ci")).returncode == 2

            locked = await ok("bots", "lock", "ci", "--ttl=1h")
            assert locked.startswith("Created a lock")
            refused = await tctl(kit, "bots", "lock", "nobody")
            assert refused.returncode == 1
            assert await ok("bots", "rm", "ci") == 'Bot "ci" deleted successfully.\n'
            assert (await tctl(kit, "bots", "rm", "ci")).returncode == 1
            assert (await tctl(kit, "bots", "instances", "show", "ci")).returncode == 2
            assert await ok("bots", "instances", "ls") == "No bot instances found\n"

    run(main, deadline_s=120)


def test_a_backup_brings_bots_with_all_that_is_theirs(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as old, auth(short_tmp / "b") as new:
            await roles(old, "deployer")
            for words in (["bots", "add", "ci", "--roles=deployer"],):
                assert (await tctl(old, *words)).returncode == 0
            backup = await tctl(old, "get", "all", "--with-secrets", "--unsealed")
            assert "bot-ci" not in backup.stdout.replace("user_name: bot-ci", "").replace(
                "role_name: bot-ci", ""
            )
            for _ in range(2):
                restored = await tctl(new, "create", "-f", stdin=backup.stdout)
                assert restored.returncode == 0, restored.stderr
            shown = await tctl(new, "get", "user/bot-ci,role/bot-ci")
            assert shown.returncode == 0, shown.stderr
            made = json.loads((await tctl(new, "bots", "instances", "add", "ci", "--format=json")).stdout)
            one = await join(new, made["token_id"])
            assert (await one.take_on("deployer")).identity().roles == ("deployer",)

    run(main, deadline_s=120)
