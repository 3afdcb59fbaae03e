import os
import subprocess
import sys
import textwrap


def run_pytest(tmp_path, test: str, **environment: str):
    """Run one test file in a session of its own; return its exit status and output."""
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["devstack.fixtures"]\n')
    (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
    path = os.pathsep.join(entry for entry in sys.path if entry)
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return outcome.returncode, outcome.stdout + outcome.stderr


def test_the_shells_own_servers_are_ignored_with_a_notice(tmp_path):
    status, output = run_pytest(
        tmp_path,
        """
        import os

        def test_environment():
            assert "DATABASE_URL" not in os.environ
            assert "KUBECONFIG" not in os.environ
        """,
        DATABASE_URL="postgresql://production:secret@db/live",
        KUBECONFIG="/etc/kubeconfig",
    )

    assert status == 0, output
    assert "your shell's DATABASE_URL, KUBECONFIG ignored" in output
    assert "secret" not in output


def test_a_named_server_that_does_not_answer_ends_the_run_with_its_variable(tmp_path):
    status, output = run_pytest(
        tmp_path,
        "def test_redis(redis_url): pass",
        TASKBRIDGE_TEST_REDIS_URL="redis://127.0.0.1:1/0",
    )

    assert status == 2, output
    assert "TASKBRIDGE_TEST_REDIS_URL names a server that does not answer" in output
    assert "the servers of TASKBRIDGE_TEST_REDIS_URL are used" in output
