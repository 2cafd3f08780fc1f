"""Tests of the compose files and docker-bake.hcl as Docker reads them. Nothing is built; tests/compose.rs runs the containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 120
PASSWORDS = {"RABBITMQ_PASSWORD": "secret1", "REDIS_PASSWORD": "secret2"}


def has(plugin: str) -> bool:
    """Whether Docker's command-line client and this plugin are installed."""
    try:
        return subprocess.run(["docker", plugin, "version"], capture_output=True, timeout=DEADLINE_SECONDS).returncode == 0
    except OSError:
        return False


def docker(*arguments: str, **variables: str) -> dict:
    """Runs a docker command that prints JSON. Only PATH, HOME and these variables are set, so no setting of this machine counts."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        ["docker", *arguments], cwd=PROJECT, env={**kept, **variables}, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def compose(*files: str, **variables: str) -> dict:
    """The services of these compose files, without a .env."""
    chosen = [argument for file in files or ("docker-compose.yml",) for argument in ("--file", file)]
    config = ["--env-file", os.devnull, *chosen, "config", "--format", "json"]
    return docker("compose", *config, **{**PASSWORDS, **variables})["services"]


def mounts(service: dict) -> dict[str, str]:
    """The mounted files and folders, by their path in the container; all of them read-only."""
    volumes = service["volumes"]
    if not all(volume["read_only"] for volume in volumes):
        raise AssertionError(volumes)
    return {volume["target"]: volume["source"] for volume in volumes}


@unittest.skipUnless(has("compose"), "`docker compose` is not installed")
class Compose(unittest.TestCase):
    def test_the_models_of_the_checkout_are_the_default(self):
        services = compose()
        for name in ("gateway", "worker"):
            with self.subTest(name):
                self.assertEqual(mounts(services[name])["/models"], str(PROJECT / "models"))

    def test_another_folder_of_models_is_mounted_everywhere(self):
        services = compose("docker-compose.yml", "docker-compose.pools.yml", SELVAGE_MODELS="other")
        for name in ("gateway", "worker", "worker-clothing"):
            with self.subTest(name):
                self.assertEqual(mounts(services[name])["/models"], str(PROJECT / "other"))

    def test_without_a_key_file_the_gateway_gets_no_option(self):
        self.assertEqual(compose()["gateway"]["command"], [])

    def test_a_key_file_is_mounted_and_named(self):
        gateway = compose(SELVAGE_API_KEYS="./api-keys")["gateway"]
        option, file = gateway["command"]
        self.assertEqual(option, "--api-keys")
        self.assertEqual(mounts(gateway)[file], str(PROJECT / "api-keys"))

    def test_a_file_of_settings_reaches_both_programs(self):
        with tempfile.NamedTemporaryFile("w", suffix=".env") as settings:
            print("SELVAGE_MAX_PIXELS=1000000", file=settings, flush=True)
            services = compose(SELVAGE_SETTINGS=settings.name)
        for name in ("gateway", "worker"):
            with self.subTest(name):
                self.assertEqual(services[name]["environment"]["SELVAGE_MAX_PIXELS"], "1000000")

    def test_images_can_come_from_a_registry(self):
        services = compose(SELVAGE_IMAGES="registry.example/team/", SELVAGE_VERSION="1.2.3")
        self.assertEqual(services["worker"]["image"], "registry.example/team/selvage-worker:1.2.3")

    def test_a_pool_differs_from_the_other_workers_by_its_models(self):
        services = compose("docker-compose.yml", "docker-compose.pools.yml")
        worker, pool = services["worker"], services["worker-clothing"]
        self.assertEqual(worker["environment"].pop("SELVAGE_SERVE"), "fashion-mnist")
        self.assertEqual(pool["environment"].pop("SELVAGE_SERVE"), "clothing")
        worker.pop("networks"), pool.pop("networks")
        self.assertEqual(pool, worker)

    def test_a_worker_on_a_gpu_differs_by_its_image_and_its_device(self):
        worker, gpu = compose()["worker"], compose("docker-compose.yml", "docker-compose.cuda.yml")["worker"]
        (device,) = gpu.pop("deploy")["resources"]["reservations"]["devices"]
        self.assertEqual((device["driver"], device["count"], device["capabilities"]), ("nvidia", 1, ["gpu"]))
        self.assertEqual(gpu["image"], "selvage-worker-cuda:latest")
        for changed in ("image", "build", "mem_limit"):
            worker.pop(changed), gpu.pop(changed)
        worker.pop("deploy", None)
        self.assertEqual(gpu, worker)

    def test_every_variable_of_the_example_is_used(self):
        used = "".join((PROJECT / file).read_text() for file in ("docker-compose.yml", "docker-compose.pools.yml"))
        names = re.findall(r"^(?:# )?([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.MULTILINE)
        self.assertGreater(len(names), 8)
        self.assertEqual([name for name in names if not re.search(rf"\{{{name}\b|\b{name}:", used)], [])


@unittest.skipUnless(has("buildx"), "`docker buildx` is not installed")
class Bake(unittest.TestCase):
    def targets(self, group: str, **variables: str) -> dict:
        """The targets of a group."""
        return docker("buildx", "bake", "--file", "docker-bake.hcl", "--print", group, **variables)["target"]

    def test_the_default_images_are_of_the_version_of_the_programs(self):
        version = re.search(r'^version = "(.+)"', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        targets = self.targets("default")
        self.assertEqual(sorted(targets), ["gateway", "worker"])
        for name, target in targets.items():
            with self.subTest(name):
                self.assertEqual(target["tags"], [f"selvage-{name}:{version}"])
                self.assertEqual(target["args"]["VERSION"], version)
                self.assertNotIn("platforms", target)
        self.assertEqual(set(re.findall(r"ARG VERSION=(\S+)", (PROJECT / "Dockerfile").read_text())), {version})

    def test_the_image_for_gpus_is_built_by_its_name(self):
        (target,) = self.targets("worker-cuda", VERSION="1.2.3").values()
        self.assertEqual((target["target"], target["tags"]), ("worker-cuda", ["selvage-worker-cuda:1.2.3"]))
        self.assertEqual((target["platforms"], target["args"]["VERSION"]), (["linux/amd64"], "1.2.3"))

    def test_a_release_has_both_platforms_and_says_what_it_contains(self):
        targets = self.targets("release", PREFIX="registry.example/team/", VERSION="1.2.3", REVISION="abc", SOURCE="https://code.example")
        self.assertEqual(sorted(targets), ["gateway-release", "worker-release"])
        for name, target in targets.items():
            with self.subTest(name):
                self.assertEqual(target["tags"], [f"registry.example/team/selvage-{target['target']}:1.2.3"])
                self.assertEqual(target["platforms"], ["linux/amd64", "linux/arm64"])
                self.assertEqual({kind.split(",")[0] for kind in target["attest"]}, {"type=sbom", "type=provenance"})
                self.assertEqual(target["args"], {"VERSION": "1.2.3", "REVISION": "abc", "SOURCE": "https://code.example"})

    def test_the_images_declare_every_argument(self):
        stages = re.split(r"^FROM .* AS ", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
        stages = {stage.split()[0]: stage for stage in stages[1:]}
        for name, target in self.targets("default").items():
            for argument in target["args"]:
                with self.subTest(name, argument=argument):
                    self.assertRegex(stages[name], rf"ARG .*\b{argument}=")
                    self.assertIn(f'.{argument.lower()}="${argument}"', stages[name])


if __name__ == "__main__":
    unittest.main()
