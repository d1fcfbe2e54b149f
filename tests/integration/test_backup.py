"""`tctl get all` of one Auth Service, `tctl create -f` into another: what one has, the other then has."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from pkgs.common.api.resources import DeleteResource, GetResource, PutResource
from pkgs.common.errors import AccessError, DeniedError, InputError
from pkgs.common.pki.sealing import unseal
from pkgs.common.resources.codec import load_documents, to_yaml
from pkgs.common.resources.kinds import Github, RecordingKey, RecordingKeys, Resource
from pkgs.common.resources.registry import IN_ORDER
from pkgs.common.rpc.client import RpcClient
from tests.integration.auth_kit import Kit, auth, listed, run, stored

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = ROOT / "tests" / "unit" / "resources" / "smallest.yaml"
PASSPHRASE = "a passphrase of the tests"
NOT_BY_HAND = {
    *("cluster_name", "cert_authority", "proxy", "auth_server", "access_request"),
    *("autoupdate_agent_rollout", "bot_instance", "db_server", "db_service"),
}


async def tctl(kit: Kit, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    config = kit.data_dir.parent / f"{kit.data_dir.name}.yaml"
    config.write_text(
        f"version: v3\nteleport: {{data_dir: {kit.data_dir}}}\nauth_service: {{enabled: yes}}\n"
        "proxy_service: {enabled: no}\nssh_service: {enabled: no}\n"
    )
    return await asyncio.to_thread(
        subprocess.run,
        [str(ROOT / "bin" / "tctl"), "-c", str(config), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


RECORDINGS = ("recording_encryption", "session_recording_config")
"""Each cluster goes on with keys of its own; those of the other open what it brought along."""


def comparable(resource: Resource) -> str:
    text = to_yaml(resource, with_secrets=True)
    return "\n".join(line for line in text.splitlines() if "revision:" not in line)


def of_cluster(resources: list[Resource]) -> dict[tuple[str, str, str], str]:
    return {
        (r.kind, r.sub_kind, r.name): comparable(r)
        for r in resources
        if r.kind not in ("cert_authority", "cluster_name", *RECORDINGS)
    }


def recording_keys(resources: list[Resource]) -> list[RecordingKey]:
    return next(r.spec.keys for r in resources if isinstance(r, RecordingKeys))


def test_a_cluster_moves_into_an_empty_one(short_tmp: Path) -> None:
    """Every kind that people make is made, exported, restored, and exported again: the same."""

    async def main() -> None:
        async with auth(short_tmp / "a") as old, auth(short_tmp / "b") as new:
            documents = [
                # Whom the smallest list lets in.
                *load_documents("kind: user\nmetadata: {name: bob}\nspec: {roles: [access]}\n"),
                *load_documents(SMALLEST.read_text()),
                *load_documents(
                    "kind: github\nmetadata: {name: sso}\nspec: {client_id: abc, client_secret: hush}\n---\n"
                    "kind: token\nmetadata: {name: ci}\nspec: {roles: [Node], join_method: github, "
                    "github: {allow: [{repository: acme/web}]}}\n---\n"
                    "kind: role\nversion: v3\nmetadata: {name: old}\nspec: {allow: {logins: [root], "
                    "node_labels: {}, db_labels: {}}}\n"
                ),
            ]
            for resource in documents:
                if resource.kind not in NOT_BY_HAND:
                    await old.admin.call(PutResource(resource=resource, mode="upsert"))

            plain = await tctl(old, "get", "all")
            assert plain.returncode == 0, plain.stderr
            for secret in ("hush", "secret-name", "PRIVATE", "private_key", "AGE-SECRET-KEY"):
                assert secret not in plain.stdout
            assert "name: ci" in plain.stdout
            assert "revision:" not in plain.stdout, "in another cluster it would mean something else"
            words = short_tmp / "words"
            words.write_text(f"{PASSPHRASE}\n")
            words.chmod(0o600)
            sealing = f"--passphrase-file={words}"
            backup = await tctl(old, "get", "all", "--with-secrets", sealing)
            assert backup.returncode == 0, backup.stderr
            for secret in ("hush", "secret-name", "PRIVATE", "AGE-SECRET-KEY", "kind:"):
                assert secret not in backup.stdout
            kept = load_documents(unseal(backup.stdout, PASSPHRASE).decode())
            order = [IN_ORDER.index(r.kind) for r in kept]
            assert order == sorted(order)
            assert {r.kind for r in kept} == set(IN_ORDER) - {*NOT_BY_HAND} | {
                "cluster_name",
                "cert_authority",
            }

            restored = await tctl(new, "create", "-f", sealing, stdin=backup.stdout)
            assert restored.returncode == 0, restored.stderr
            assert 'role "dev" has been created' in restored.stdout
            assert "left out" in restored.stdout
            again = await tctl(new, "get", "all", "--with-secrets", "--unsealed")
            assert again.stderr.count("WARNING") == 2
            assert of_cluster(load_documents(again.stdout)) == of_cluster(kept)
            theirs = {key.public_key: key.private_key for key in recording_keys(kept)}
            ours = {key.public_key: key for key in recording_keys(load_documents(again.stdout))}
            assert len(theirs) == 1
            assert len(ours) == 2
            for public, private in theirs.items():
                assert (ours[public].private_key, ours[public].state) == (private, "rotated")
            assert (await tctl(new, "create", "-f", stdin=plain.stdout)).returncode == 0
            connector = (
                await new.admin.call(GetResource(kind="github", name="sso", with_secrets=True))
            ).resource
            assert isinstance(connector, Github)
            assert connector.spec.client_secret == "hush", "a text without the secret does not take it away"

    run(main, deadline_s=120)


def test_edits_update_and_refusals(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            text = "kind: github\nmetadata: {name: sso}\nspec: {client_id: abc, client_secret: hush}\n"
            (made,) = load_documents(text)
            await kit.admin.call(PutResource(resource=made))
            shown = (await kit.admin.call(GetResource(kind="github", name="sso"))).resource
            assert "hush" not in to_yaml(shown, with_secrets=True)
            done = await tctl(kit, "update", "github/sso", "--set-labels=team=a,env=b", "--set-ttl=8h")
            assert done.returncode == 0, done.stderr
            changed = (
                await kit.admin.call(GetResource(kind="github", name="sso", with_secrets=True))
            ).resource
            assert isinstance(changed, Github)
            assert changed.metadata.labels == {"team": "a", "env": "b"}
            assert changed.metadata.expires is not None
            assert changed.spec.client_secret == "hush"
            # The secret does not follow to another place.
            (elsewhere,) = load_documents(
                "kind: github\nmetadata: {name: sso}\nspec: {client_id: abc, endpoint_url: 'https://evil.example'}"
            )
            await kit.admin.call(PutResource(resource=elsewhere, mode="upsert"))
            got = (await kit.admin.call(GetResource(kind="github", name="sso", with_secrets=True))).resource
            assert isinstance(got, Github)
            assert got.spec.client_secret == ""
            await kit.admin.call(DeleteResource(kind="github", name="sso"))
            told = [
                e.code for e in await stored(kit.admin, "github.created", "github.updated", "github.deleted")
            ]
            assert told == ["T8000I", "T80002I", "T80002I", "T8001I"]

            for kind in ("ui", "cmc"):
                missing = await tctl(kit, "get", kind)
                assert missing.returncode == 1
                assert "not found" in missing.stderr
            for words in (
                ["update", "github/x"],
                ["get", "app_server"],
                ["update", "github", "--set-ttl=1h"],
            ):
                refused = await tctl(kit, *words)
                assert refused.returncode == 2, refused.stderr
            both = await tctl(kit, "get", "role,user,connectors")
            assert both.returncode == 0, both.stderr
            assert "kind: role" in both.stdout
            as_json = await tctl(kit, "get", "roles", "--format=json")
            assert as_json.stdout.startswith("[")
            assert (await tctl(kit, "get", "roles", "--format=text")).stdout.startswith("Role")

            for text, part in (
                (
                    "kind: cap\nmetadata: {name: cluster-auth-preference}\n"
                    "spec: {second_factors: [webauthn]}",
                    "one-time",
                ),
                (
                    "kind: access_request\nmetadata: {name: 11111111-2222-4333-8444-555555555555}\n"
                    "spec: {user: a}",
                    "read only",
                ),
            ):
                (resource,) = load_documents(text)
                with pytest.raises(InputError, match=part):
                    await kit.admin.call(PutResource(resource=resource, mode="upsert"))

    run(main, deadline_s=120)


def test_tokens_of_other_methods_let_nobody_in(short_tmp: Path) -> None:
    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            text = (
                "kind: token\nmetadata: {name: ci}\n"
                "spec: {roles: [Node], join_method: github, github: {allow: [{repository: a/b}]}}"
            )
            (token,) = load_documents(text)
            await kit.admin.call(PutResource(resource=token))
            with pytest.raises(DeniedError):
                await kit.join(token="ci")

    run(main)


def test_a33_users_see_what_their_labels_allow(short_tmp: Path) -> None:
    """Everybody's implicit role may list applications and databases; labels decide which."""

    async def main() -> None:
        async with auth(short_tmp / "a") as kit:
            text = """
kind: app
metadata: {name: open, labels: {env: dev}}
spec: {uri: 'http://localhost:1'}
---
kind: app
metadata: {name: closed, labels: {env: prod}}
spec: {uri: 'http://localhost:2'}
---
kind: kube_cluster
metadata: {name: k1, labels: {env: dev}}
spec: {kubeconfig: c2VjcmV0}
---
kind: role
metadata: {name: devs}
spec:
  allow: {app_labels: {'*': '*'}, kubernetes_labels: {env: dev}}
  deny: {app_labels: {env: prod}}
---
kind: role
metadata: {name: none}
"""
            for resource in load_documents(text):
                await kit.admin.call(PutResource(resource=resource))
            devs = kit.as_user(await kit.user("dora", "devs"))
            none = kit.as_user(await kit.user("nina", "none"))

            async def names(client: RpcClient, kind: str) -> list[str]:
                return [r.name for r in await listed(client, kind)]

            assert await names(devs, "app") == ["open"]
            assert await names(none, "app") == []
            assert await names(none, "kube_cluster") == []
            (cluster,) = await listed(devs, "kube_cluster")
            assert "c2VjcmV0" not in repr(cluster)
            assert (await devs.call(GetResource(kind="app", name="open"))).resource.name == "open"
            for name in ("closed", "missing"):
                with pytest.raises(AccessError, match=f'app "{name}" not found'):
                    await devs.call(GetResource(kind="app", name=name))
            for kind in ("github", "trusted_cluster", "bot", "access_list", "token"):
                with pytest.raises(DeniedError):
                    await names(devs, kind)
            with pytest.raises(DeniedError):
                await devs.call(PutResource(resource=load_documents(text)[0], mode="upsert"))

    run(main)
