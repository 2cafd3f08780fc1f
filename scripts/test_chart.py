"""Tests of the Helm chart: what it renders for the values of users. `check-kubernetes` validates the results against schemas."""

from __future__ import annotations

import json
import re
import subprocess
import unittest
from pathlib import Path

import pinned_tools

PROJECT = Path(__file__).resolve().parent.parent
CHART = PROJECT / "deploy" / "helm" / "selvage"
DEADLINE_SECONDS = 120
EXTERNAL = {
    "connections": {"existingSecret": "given"},
    "rabbitmq": {"enabled": False},
    "redis": {"records": {"enabled": False}, "cache": {"enabled": False}},
}


def helm() -> Path:
    """The pinned Helm."""
    program = pinned_tools.folder() / "helm"
    if not program.exists():
        raise unittest.SkipTest("no package has Helm for this processor, and it is not on the PATH")
    return program


def template(values: dict) -> subprocess.CompletedProcess:
    """Renders the chart as the release `selvage` in the namespace `shop`."""
    command = [helm(), "template", "selvage", CHART, "--namespace", "shop", "--values", "-"]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, timeout=DEADLINE_SECONDS)


class Rendered:
    """The objects that the chart makes of some values."""

    def __init__(self, values: dict | None = None):
        done = template(values or {})
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        self.objects = pinned_tools.documents(done.stdout)

    def of(self, kind: str) -> dict[str, dict]:
        """The objects of a kind, by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def pods(self) -> dict[str, dict]:
        """The templates of pods, by the name of their owner."""
        return {one["metadata"]["name"]: one["spec"]["template"] for one in self.objects if "template" in one.get("spec", {})}

    def pod(self, name: str) -> dict:
        """The specification of the pods of this owner."""
        return self.pods()[name]["spec"]

    def container(self, name: str) -> dict:
        """Their only container."""
        (container,) = self.pod(name)["containers"]
        return container

    def environment(self, name: str) -> dict:
        """Its variables: a text, or a pair of secret and key."""
        variables = self.container(name)["env"]
        names = [variable["name"] for variable in variables]
        if len(set(names)) != len(names):
            raise AssertionError(f"a variable is set twice: {names}")
        return {variable["name"]: value_of(variable) for variable in variables}


def value_of(variable: dict) -> str | tuple[str, str]:
    """The text of a variable, or the secret and the key that it comes from."""
    if "value" in variable:
        return variable["value"]
    source = variable["valueFrom"]["secretKeyRef"]
    return source["name"], source["key"]


def mounts(container: dict) -> dict[str, dict]:
    """A container's mounts, by path."""
    return {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}


def settings_of(text: str, separator: str) -> dict[str, str]:
    """The settings of a configuration, without comments."""
    lines = [line.split(separator, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {name.strip(): value.strip() for name, value in lines}


class Defaults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.rendered = Rendered()

    def test_every_container_runs_without_rights_and_within_its_memory(self):
        pods = self.rendered.pods()
        self.assertEqual(sorted(pods), ["selvage-gateway", "selvage-redis", "selvage-redis-cache", "selvage-worker-all"])
        for name in pods:
            with self.subTest(name):
                pod, container = self.rendered.pod(name), self.rendered.container(name)
                self.assertFalse(pod["automountServiceAccountToken"])
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                self.assertEqual(container["securityContext"], expected)
                self.assertIn("memory", container["resources"]["limits"])

    def test_probes_ask_the_health_listener_of_the_images(self):
        dockerfile = (PROJECT / "Dockerfile").read_text()
        for name in ("gateway", "worker-all"):
            container = self.rendered.container(f"selvage-{name}")
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            self.assertIn(f"SELVAGE_OPS_LISTEN=0.0.0.0:{ports['ops']}", dockerfile)
            for probe, path in (("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
                with self.subTest(name, probe=probe):
                    self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "ops"})

    def test_every_selector_selects_pods_of_one_owner(self):
        labels = {name: pod["metadata"]["labels"] for name, pod in self.rendered.pods().items()}
        checked = 0
        for one in self.rendered.objects:
            spec = one.get("spec", {})
            chosen = spec.get("podSelector", spec.get("selector"))
            if chosen is None or one["metadata"]["name"] == "selvage-rabbitmq":
                continue
            wanted = chosen.get("matchLabels", chosen).items()
            with self.subTest(one["kind"], name=one["metadata"]["name"]):
                selected = [name for name, have in labels.items() if wanted <= have.items()]
                self.assertEqual(len(selected), 1)
                self.assertTrue(selected[0].startswith(one["metadata"]["name"]))
            checked += 1
        self.assertGreater(checked, 10)

    def test_programs_get_their_addresses_from_secrets_and_services(self):
        services = self.rendered.of("Service")
        for name in ("selvage-gateway", "selvage-worker-all"):
            with self.subTest(name):
                environment = self.rendered.environment(name)
                self.assertEqual(environment["RABBITMQ_PASSWORD"], ("selvage-rabbitmq-default-user", "password"))
                self.assertEqual(environment["REDIS_PASSWORD"], ("selvage-redis", "password"))
                self.assertEqual(environment["SELVAGE_AMQP_URL"], "amqp://$(RABBITMQ_USER):$(RABBITMQ_PASSWORD)@selvage-rabbitmq:5672/%2f")
                for variable in ("SELVAGE_REDIS_URL", "SELVAGE_CACHE_URL"):
                    service = re.fullmatch(r"redis://:\$\(REDIS_PASSWORD\)@([\w-]+):6379/0", environment[variable])[1]
                    self.assertIn(service, services)
        self.assertIn("selvage-rabbitmq", self.rendered.of("RabbitmqCluster"))

    def test_workers_serve_the_models_of_the_images(self):
        models = sorted(folder.parent.name for folder in (PROJECT / "models").glob("*/model.toml"))
        self.assertEqual(sorted(self.rendered.environment("selvage-worker-all")["SELVAGE_SERVE"].split(",")), models)
        for name in ("selvage-gateway", "selvage-worker-all"):
            self.assertNotIn("/models", mounts(self.rendered.container(name)))

    def test_what_is_optional_is_absent(self):
        kinds = {one["kind"] for one in self.rendered.objects}
        self.assertEqual(kinds & {"ScaledObject", "TriggerAuthentication", "Ingress", "Secret"}, set())
        variables = self.rendered.environment("selvage-gateway")
        absent = {"SELVAGE_API_KEYS", "SELVAGE_WEBHOOK_SECRET", "SELVAGE_ALLOWED_HOSTS", "SELVAGE_MAX_CONNECTIONS_PER_ADDRESS"}
        self.assertEqual(variables.keys() & absent, set())

    def test_only_gateways_and_workers_reach_rabbitmq_and_redis(self):
        policies = self.rendered.of("NetworkPolicy")
        for name, port in (("selvage-rabbitmq", 5672), ("selvage-redis", "redis"), ("selvage-redis-cache", "redis")):
            with self.subTest(name):
                (rule,) = [rule for rule in policies[name]["spec"]["ingress"] if rule.get("ports") == [{"port": port}]]
                peers = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]]
                self.assertEqual(sorted(peers), ["gateway", "worker"])

    def test_redis_and_rabbitmq_have_the_settings_of_the_shipped_files(self):
        elsewhere = {"protected-mode", "dir"}  # a password protects them here, and the folder is a mount
        for name in ("redis", "redis-cache"):
            with self.subTest(name):
                shipped = settings_of((PROJECT / "deploy" / f"{name}.conf").read_text(), " ")
                chart = settings_of(self.rendered.of("ConfigMap")[f"selvage-{name}"]["data"]["redis.conf"], " ")
                for name in elsewhere:
                    chart.pop(name, None), shipped.pop(name, None)
                self.assertEqual(chart, shipped)
        cluster = self.rendered.of("RabbitmqCluster")["selvage-rabbitmq"]["spec"]["rabbitmq"]["additionalConfig"]
        self.assertEqual(settings_of(cluster, "="), settings_of((PROJECT / "deploy" / "rabbitmq.conf").read_text(), "="))

    def test_images_and_chart_have_the_version_of_the_programs(self):
        version = re.search(r'^version = "(.+)"', (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)[1]
        self.assertEqual(self.rendered.container("selvage-gateway")["image"], f"selvage-gateway:{version}")
        self.assertEqual(self.rendered.container("selvage-worker-all")["image"], f"selvage-worker:{version}")
        self.assertIn(f"\nversion: {version}\n", (CHART / "Chart.yaml").read_text())


class Pools(unittest.TestCase):
    POOLS = [
        {"name": "light", "models": ["fashion-mnist"], "settings": {"SELVAGE_SESSIONS": "2"}, "minReplicas": 1},
        {"name": "heavy", "models": ["clothing", "shoes"], "interactiveJobs": 8, "image": "selvage-worker-cuda", "resources": {"limits": {"nvidia.com/gpu": 1}}},
    ]

    def test_a_pool_overrides_what_all_pools_have_in_common(self):
        rendered = Rendered({"pools": self.POOLS, "worker": {"settings": {"SELVAGE_LOG": "debug"}}})
        light, heavy = rendered.environment("selvage-worker-light"), rendered.environment("selvage-worker-heavy")
        self.assertEqual((light["SELVAGE_SERVE"], heavy["SELVAGE_SERVE"]), ("fashion-mnist", "clothing,shoes"))
        self.assertEqual((light["SELVAGE_SESSIONS"], heavy["SELVAGE_SESSIONS"]), ("2", "1"))
        self.assertEqual((light["SELVAGE_LOG"], heavy["SELVAGE_LOG"]), ("debug", "debug"))
        limits = rendered.container("selvage-worker-heavy")["resources"]["limits"]
        self.assertEqual(limits, {"memory": "1Gi", "nvidia.com/gpu": 1})
        images = [rendered.container(f"selvage-worker-{pool}")["image"] for pool in ("light", "heavy")]
        self.assertEqual([re.sub(r":.*", "", image) for image in images], ["selvage-worker", "selvage-worker-cuda"])
        self.assertNotIn("nvidia.com/gpu", rendered.container("selvage-worker-light")["resources"]["limits"])

    def test_keda_watches_both_queues_of_every_model_of_a_pool(self):
        rendered = Rendered({"pools": self.POOLS, "keda": {"enabled": True}, "settings": {"SELVAGE_PREFIX": "acme"}})
        triggers = {}
        for name, scaled in rendered.of("ScaledObject").items():
            self.assertEqual(scaled["spec"]["scaleTargetRef"], {"name": name})
            self.assertNotIn("replicas", rendered.of("Deployment")[name]["spec"])
            triggers[name] = {one["metadata"]["queueName"]: one["metadata"]["value"] for one in scaled["spec"]["triggers"]}
        light = {"acme.v1.fashion-mnist.interactive": "64", "acme.v1.fashion-mnist.batch": "256"}
        heavy = {f"acme.v1.{model}.{queue}": jobs for model in ("clothing", "shoes") for queue, jobs in (("interactive", "8"), ("batch", "256"))}
        self.assertEqual(triggers, {"selvage-worker-light": light, "selvage-worker-heavy": heavy})
        self.assertEqual(rendered.of("ScaledObject")["selvage-worker-light"]["spec"]["minReplicaCount"], 1)
        self.assertEqual(rendered.environment("selvage-gateway")["SELVAGE_PREFIX"], "acme")

    def test_keda_reaches_rabbitmq_from_its_own_namespace(self):
        rendered = Rendered({"keda": {"enabled": True}, "networkPolicy": {"kedaNamespace": "scaling"}})
        (scaled,) = rendered.of("ScaledObject").values()
        hosts = {one["metadata"]["host"] for one in scaled["spec"]["triggers"]}
        self.assertEqual(hosts, {"http://selvage-rabbitmq.shop.svc:15672/%2f"})
        self.assertIn('"scaling"', json.dumps(rendered.of("NetworkPolicy")["selvage-rabbitmq"]))


class OwnParts(unittest.TestCase):
    def test_what_runs_elsewhere_comes_from_one_secret(self):
        rendered = Rendered({**EXTERNAL, "keda": {"enabled": True}})
        self.assertEqual(list(rendered.pods()), ["selvage-gateway", "selvage-worker-all"])
        for name in rendered.pods():
            with self.subTest(name):
                environment = rendered.environment(name)
                for variable, key in (("AMQP", "amqp-url"), ("REDIS", "redis-url"), ("CACHE", "cache-url")):
                    self.assertEqual(environment[f"SELVAGE_{variable}_URL"], ("given", key))
        self.assertEqual(rendered.of("RabbitmqCluster"), {})
        (authentication,) = rendered.of("TriggerAuthentication").values()
        self.assertEqual(authentication["spec"]["secretTargetRef"], [{"parameter": "host", "name": "given", "key": "management-url"}])
        (scaled,) = rendered.of("ScaledObject").values()
        self.assertNotIn("host", scaled["spec"]["triggers"][0]["metadata"])

    def test_api_keys_are_a_file_and_webhook_secrets_are_variables(self):
        rendered = Rendered({"apiKeys": {"existingSecret": "keys"}, "webhooks": {"existingSecret": "hooks"}})
        environment, pod = rendered.environment("selvage-gateway"), rendered.pod("selvage-gateway")
        folder, _, file = environment["SELVAGE_API_KEYS"].rpartition("/")
        mount = mounts(pod["containers"][0])[folder]
        (volume,) = [one for one in pod["volumes"] if one["name"] == mount["name"]]
        self.assertEqual(volume["secret"], {"secretName": "keys", "items": [{"key": "api-keys", "path": file}]})
        self.assertEqual(environment["SELVAGE_WEBHOOK_SECRET"], ("hooks", "secret"))
        self.assertEqual(environment["SELVAGE_WEBHOOK_PREVIOUS_SECRET"], ("hooks", "previous-secret"))
        self.assertEqual(rendered.environment("selvage-worker-all").keys() & environment.keys() & {"SELVAGE_API_KEYS"}, set())

    def test_own_models_are_mounted_where_the_images_have_theirs(self):
        self.assertIn("SELVAGE_MODELS=/models ", (PROJECT / "Dockerfile").read_text())
        image = {"reference": "registry.example/models:7", "path": "srv/models"}
        cases = {
            "claim": ({"existingClaim": "own"}, {"persistentVolumeClaim": {"claimName": "own", "readOnly": True}}),
            "volume": ({"image": image}, {"image": {"reference": image["reference"], "pullPolicy": "IfNotPresent"}}),
            "copy": ({"image": {**image, "mode": "copy"}}, {"emptyDir": {}}),
        }
        for case, (models, expected) in cases.items():
            rendered = Rendered({"models": models})
            for name in ("selvage-gateway", "selvage-worker-all"):
                with self.subTest(case, name=name):
                    pod = rendered.pod(name)
                    mount = mounts(pod["containers"][0])["/models"]
                    self.assertTrue(mount["readOnly"])
                    self.assertEqual(mount.get("subPath"), "srv/models" if case == "volume" else None)
                    self.assertEqual(pod["volumes"], [{"name": mount["name"], **expected}])
                    copies = [(one["image"], one["command"]) for one in pod.get("initContainers", [])]
                    copied = [(image["reference"], ["cp", "-R", "/srv/models/.", "/target"])]
                    self.assertEqual(copies, copied if case == "copy" else [])

    def test_an_ingress_names_the_hosts_that_gateways_answer_to(self):
        ingress = {"enabled": True, "hosts": ["a.example", "b.example"]}
        rendered = Rendered({"ingress": ingress, "settings": {"SELVAGE_MAX_CONNECTIONS": "512"}})
        rules = rendered.of("Ingress")["selvage-gateway"]["spec"]["rules"]
        self.assertEqual([rule["host"] for rule in rules], ingress["hosts"])
        environment = rendered.environment("selvage-gateway")
        hosts = environment["SELVAGE_ALLOWED_HOSTS"].split(",")
        self.assertEqual(hosts[:4], ["a.example", "b.example", "selvage-gateway", "selvage-gateway.shop"])
        self.assertEqual(environment["SELVAGE_MAX_CONNECTIONS_PER_ADDRESS"], "512")
        guarded = Rendered({"ingress": ingress, "apiKeys": {"existingSecret": "keys"}}).environment("selvage-gateway")
        self.assertNotIn("SELVAGE_ALLOWED_HOSTS", guarded)

    def test_own_settings_win_and_the_grace_periods_follow_the_drain(self):
        own = {"settings": {"SELVAGE_MAX_CONNECTIONS_PER_ADDRESS": "9"}}
        rendered = Rendered({"drainTimeout": 60, "gateway": own, "ingress": {"enabled": True, "hosts": ["a.example"]}})
        self.assertEqual(rendered.environment("selvage-gateway")["SELVAGE_MAX_CONNECTIONS_PER_ADDRESS"], "9")
        for name in ("selvage-gateway", "selvage-worker-all"):
            with self.subTest(name):
                self.assertEqual(rendered.environment(name)["SELVAGE_DRAIN_TIMEOUT"], "60")
                self.assertGreaterEqual(rendered.pod(name)["terminationGracePeriodSeconds"], 70)


class Refused(unittest.TestCase):
    CASES = {
        "an unknown value": ({"gateways": 3}, "gateways"),
        "a misspelt value of a pool": ({"pools": [{"name": "a", "models": ["m"], "replica": 1}]}, "replica"),
        "RabbitMQ elsewhere without its address": ({"rabbitmq": {"enabled": False}}, "existingSecret"),
        "Redis elsewhere without its address": ({"redis": {"records": {"enabled": False}}}, "existingSecret"),
        "two sources of models": ({"models": {"existingClaim": "a", "image": {"reference": "b"}}}, "not both"),
        "a pool without models": ({"pools": [{"name": "a", "models": []}]}, "models"),
        "two pools of one name": ({"pools": [{"name": "a", "models": ["m"]}, {"name": "a", "models": ["n"]}]}, "two have the name a"),
        "a setting that the chart sets": ({"settings": {"SELVAGE_SERVE": "m"}}, "SELVAGE_SERVE"),
        "a prefix of one program only": ({"worker": {"settings": {"SELVAGE_PREFIX": "x"}}}, "SELVAGE_PREFIX"),
        "a number as a setting, which might be rounded": ({"settings": {"SELVAGE_MAX_BODY": 1048576}}, "SELVAGE_MAX_BODY"),
        "an ingress without hosts": ({"ingress": {"enabled": True}}, "hosts"),
    }

    def test_wrong_values_are_errors_that_name_them(self):
        for case, (values, named) in self.CASES.items():
            with self.subTest(case):
                done = template(values)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(named, done.stderr)


if __name__ == "__main__":
    unittest.main()
