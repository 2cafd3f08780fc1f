"""Tests of `scripts/services`, on real instances. Other tests run the gateway and the workers on them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from private_services import control, probe, processes
from private_services.folder import MARK, Folder

SCRIPT = Path(__file__).resolve().parent / "services"
DEADLINE_SECONDS = 180.0
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("SELVAGE_")}


def services(*arguments: object) -> subprocess.CompletedProcess:
    """Runs the script to its end and returns its output."""
    command = [str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_SECONDS * 3)


def wait_until(condition, what: str) -> None:
    """Returns when the condition holds."""
    control.wait_for(condition, DEADLINE_SECONDS, what)


def left_over(state) -> list[int]:
    """Returns the running processes of a pair. Redis overwrites its environment with its title, so it is found by its port."""
    return processes.marked(f"{MARK}={state.mark}") + [pid for pid, line in commands() if f"127.0.0.1:{state.redis_port}" in line]


def commands() -> list[tuple[int, str]]:
    """Returns the id and the command line of every process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(folder.name), (folder / "cmdline").read_text(errors="replace")))
        except OSError:  # ended meanwhile
            continue
    return found


def redis(state, *commands: str) -> str:
    """Sends the password and inline commands, and returns everything Redis answers."""
    request = "".join(f"{line}\r\n" for line in (f"AUTH {state.redis_password}", *commands, "QUIT"))
    return probe.exchange(state.redis_port, request.encode(), wanted=4096).decode()


def setUpModule() -> None:
    """Restores SIGINT: a background shell ignores it, and every child would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StartedServices(unittest.TestCase):
    """One running pair in a folder, whose services are controlled one by one."""

    @classmethod
    def setUpClass(cls):
        cls.top = Path(tempfile.mkdtemp(prefix="selvage-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.top, ignore_errors=True)
        # A long name with spaces, because neither may matter.
        cls.path = cls.top / ("a folder with a long name " * 5).strip()
        started = services("start", cls.path)
        cls.addClassCleanup(services, "stop", cls.path)
        if started.returncode != 0:
            raise AssertionError(started.stderr)
        cls.printed = started.stdout
        cls.state = Folder.load(cls.path).state

    def test_nobody_gets_in_without_the_password(self):
        self.assertFalse(probe.redis_speaks(self.state.redis_port, "wrong"))
        self.assertTrue(probe.exchange(self.state.redis_port, b"PING\r\n", wanted=7).startswith(b"-NOAUTH"))
        users = services("rabbitmqctl", self.path, "-q", "list_users", "--no-table-headers").stdout.split()
        self.assertIn(self.state.amqp_user, users)
        self.assertNotIn("guest", users)

    def test_others_on_this_machine_cannot_read_the_passwords(self):
        self.assertEqual(self.path.stat().st_mode & 0o077, 0)
        shown = "".join(line for _, line in commands())
        self.assertIn(f"127.0.0.1:{self.state.redis_port}", shown)
        for secret in (self.state.amqp_password, self.state.redis_password):
            self.assertNotIn(secret, shown)

    def test_the_deployment_settings_are_in_force(self):
        self.assertIn("noeviction", redis(self.state, "CONFIG GET maxmemory-policy"))
        self.assertIn("everysec", redis(self.state, "CONFIG GET appendfsync"))
        environment = services("rabbitmqctl", self.path, "environment").stdout
        for setting in ("{channel_max,128}", "{heartbeat,10}", "{max_message_size,16777216}", "{wal_max_size_bytes,64000000}"):
            self.assertIn(setting, environment)


class OtherFolders(unittest.TestCase):
    """Starting, stopping and naming folders."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="selvage-test-"))
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)

    def test_stop_leaves_no_process_and_a_new_start_has_the_same_addresses_and_data(self):
        path = self.top / "pair"
        self.addCleanup(services, "stop", path)
        first = services("start", path)
        state = Folder.load(path).state
        redis(state, "SET kept yes")
        self.assertEqual(services("stop", path).returncode, 0)
        self.assertEqual(left_over(state), [])
        self.assertEqual(services("start", path).stdout, first.stdout)
        self.assertIn("yes", redis(state, "GET kept"))

    def test_a_folder_with_other_things_is_refused(self):
        (self.top / "mine.txt").write_text("mine")
        refused = services("start", self.top)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("is not empty", refused.stderr)
        self.assertEqual(os.listdir(self.top), ["mine.txt"])

    def test_a_folder_without_services_is_named(self):
        for arguments in (("env", self.top), ("broker", self.top, "stop"), ("rabbitmqctl", self.top, "status")):
            answer = services(*arguments)
            self.assertEqual(answer.returncode, 1)
            self.assertIn(str(self.top), answer.stderr)
            self.assertNotIn("Traceback", answer.stderr)


class Run(unittest.TestCase):
    """`run`: a command, and services that end with it."""

    def setUp(self):
        self.top = Path(tempfile.mkdtemp(prefix="selvage-test-"))
        self.addCleanup(shutil.rmtree, self.top, ignore_errors=True)

    def start_run(self, name: str, command: str, **options) -> tuple[subprocess.Popen, Folder]:
        """Starts `run` with a shell command that first reports its services' folder; returns when the command runs."""
        report = self.top / name
        script = f'echo "$SELVAGE_TEST_SERVICES_DIR" > "$0.new"; mv "$0.new" "$0"; {command}'
        command = [str(SCRIPT), "run", "--", "sh", "-c", script, str(report)]
        run = subprocess.Popen(command, **{"stdin": subprocess.PIPE, "env": PLAIN, **options})
        if run.stdin is not None:
            self.addCleanup(run.stdin.close)
        self.addCleanup(run.wait)
        self.addCleanup(run.terminate)
        wait_until(lambda: report.exists() or run.poll() is not None, "the command did not start")
        return run, Folder.load(Path(report.read_text().strip()))

    def assert_all_gone(self, folder: Folder) -> None:
        """Waits until all processes and files of the pair are gone."""
        wait_until(lambda: left_over(folder.state) == [] and not folder.path.exists(), f"something of {folder.path} did not end")

    def test_two_at_once_do_not_collide_and_pass_on_their_commands_status(self):
        is_plain = 'test "${SELVAGE_AMQP_URL-none} ${SELVAGE_REDIS_URL-none}" = "none none"'
        one, first = self.start_run("one", f"read line; {is_plain} && exit 7")
        two, second = self.start_run("two", "read line; exit 0")
        used = [{f.state.amqp_port, f.state.dist_port, f.state.epmd_port, f.state.redis_port} for f in (first, second)]
        self.assertEqual(len(used[0] | used[1]), 8)
        self.assertNotEqual(first.state.node, second.state.node)
        one.stdin.close()
        self.assertEqual(one.wait(DEADLINE_SECONDS), 7)
        self.assertFalse(probe.amqp_speaks(first.state.amqp_port))
        self.assertTrue(probe.amqp_speaks(second.state.amqp_port))
        self.assertTrue(probe.redis_speaks(second.state.redis_port, second.state.redis_password))
        two.stdin.close()
        self.assertEqual(two.wait(DEADLINE_SECONDS), 0)
        self.assert_all_gone(second)

    def test_programs_get_the_addresses_as_settings_only_when_asked_for(self):
        answer = services("run", "--as-settings", "--", "sh", "-c", 'echo "$SELVAGE_AMQP_URL $SELVAGE_REDIS_URL"')
        self.assertRegex(answer.stdout, r"^amqp://\S+ redis://\S+\n$")

    def test_a_command_that_does_not_exist_is_named(self):
        answer = services("run", "no-such-command-here")
        self.assertEqual(answer.returncode, 127)
        self.assertIn("no-such-command-here", answer.stderr)

    def test_sigterm_reaches_the_command_and_everything_ends(self):
        run, folder = self.start_run("report", "trap 'exit 5' TERM; while :; do read line || sleep 0.1; done")
        run.send_signal(signal.SIGTERM)
        self.assertEqual(run.wait(DEADLINE_SECONDS), 5)
        self.assert_all_gone(folder)

    def test_sigkill_of_the_script_leaves_nothing(self):
        run, folder = self.start_run("report", "exec tail -f /dev/null")
        self.assertNotEqual(left_over(folder.state), [])
        run.kill()
        run.wait(DEADLINE_SECONDS)
        self.assert_all_gone(folder)


if __name__ == "__main__":
    unittest.main()
