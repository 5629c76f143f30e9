"""`brownout exec`: programs run unmodified, with no address in them but the provider's own. Names
of the providers lead nowhere here; only through the forward gateway can they be reached."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from conftest import BROWNOUT, PATIENCE

FILE = """
version: 1
name: exec
seed: 7
gateways: { forward: 0 }
dependencies:
  llm: { kind: openai, hosts: ["api.openai.com", "plain.test"], simulate: { model: instant } }
  own: { kind: openai, listen: 0, simulate: { model: instant } }
faults:
  broken: { target: llm, error: { status: 503 } }
"""

URLS = ["https://api.openai.com/v1/models", "http://plain.test/v1/models"]

PYTHON = {
    "httpx": "import httpx; answer = httpx.get(URL); print(answer.status_code)",
    "requests": "import requests; print(requests.get(URL).status_code)",
    "urllib": """
        import urllib.request, urllib.error
        try:
            print(urllib.request.urlopen(URL).status)
        except urllib.error.HTTPError as error:
            print(error.code)
    """,
    "aiohttp": """
        import aiohttp, asyncio
        async def main():
            async with aiohttp.ClientSession(trust_env=True) as session:
                async with session.get(URL) as answer:
                    print(answer.status)
        asyncio.run(main())
    """,
}

NODE = {
    "fetch": "fetch(PLACE).then((answer) => console.log(answer.status))",
    "http": """
        require(PLACE.split(':')[0]).get(PLACE, (answer) => { console.log(answer.statusCode); answer.resume(); })
    """,
}

JAVA = """
import java.net.URI;
import java.net.http.*;
public class Call {
    public static void main(String[] words) throws Exception {
        var client = HttpClient.newHttpClient();
        var answer = client.send(HttpRequest.newBuilder(URI.create(words[0])).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.statusCode());
    }
}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "brownout.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def environment(tmp_path):
    usual = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return usual | {"BROWNOUT_CA_DIR": str(tmp_path / "ca")}


def run(file, environment, *command, options=()):
    return subprocess.run(
        [BROWNOUT, "exec", str(file), "--admin", "127.0.0.1:0", *options, "--", *map(str, command)],
        env=environment, capture_output=True, text=True, timeout=2 * PATIENCE,
    )


def said(done):
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("client", PYTHON)
def test_python(client, url, file, environment):
    program = f"URL = {url!r}\n" + textwrap.dedent(PYTHON[client])
    assert said(run(file, environment, sys.executable, "-c", program)) == "200"
    broken = run(file, environment, sys.executable, "-c", program, options=["--arm", "broken"])
    assert said(broken) == "503"


def test_openai_without_a_base_url(file, environment):
    program = """
        import os, openai
        os.environ.pop("OPENAI_BASE_URL")
        client = openai.OpenAI(api_key="sk-test", max_retries=0)
        print(client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "hi"}]).object)
    """
    answer = run(file, environment, sys.executable, "-c", textwrap.dedent(program))
    assert said(answer) == "chat.completion"


def test_openai_by_its_base_url(file, environment):
    program = 'import openai; print(openai.OpenAI(api_key="sk-test").models.list().object)'
    assert said(run(file, environment, sys.executable, "-c", program)) == "list"


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("client", NODE)
def test_node(client, url, file, environment):
    node = shutil.which("node") or pytest.skip("SKIPPED: there is no Node here")
    program = f"const PLACE = {json.dumps(url)};" + textwrap.dedent(NODE[client])
    assert said(run(file, environment, node, "-e", program)) == "200"
    broken = run(file, environment, node, "-e", program, options=["--arm", "broken"])
    assert said(broken) == "503"


@pytest.mark.parametrize("url", URLS)
def test_curl(url, file, environment):
    curl = shutil.which("curl") or pytest.skip("SKIPPED: there is no curl here")
    command = [curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", url]
    assert said(run(file, environment, *command)) == "200"


@pytest.mark.parametrize("url", URLS)
def test_java(url, file, environment, tmp_path):
    java = shutil.which("java") or pytest.skip("SKIPPED: there is no Java here")
    source = tmp_path / "Call.java"
    source.write_text(JAVA)
    done = run(file, environment, java, source, url)
    if "jdk.compiler" in done.stderr:
        pytest.skip("SKIPPED: this Java runs no source files")
    assert said(done) == "200"


def test_java_reads_the_truststore(file, environment, tmp_path):
    keytool = shutil.which("keytool") or pytest.skip("SKIPPED: there is no keytool here")
    said(run(file, environment, "true"))
    store = tmp_path / "ca" / "truststore.p12"
    listed = subprocess.run(
        [keytool, "-list", "-keystore", store, "-storetype", "PKCS12", "-storepass", ""],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )
    certificates = (tmp_path / "ca" / "bundle.pem").read_text().count("BEGIN CERTIFICATE")
    assert listed.stdout.count("trustedCertEntry") == certificates


def test_the_exit_code_is_the_programs(file, environment):
    assert run(file, environment, "sh", "-c", "exit 7").returncode == 7
    assert run(file, environment, "sh", "-c", "kill -9 $$").returncode == 137
    missing = run(file, environment, "no-such-program")
    assert missing.returncode == 127 and "no such program" in missing.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_program(number, file, environment):
    program = "import signal, sys, time; print('up', flush=True)\n"
    program += "for n in (2, 15): signal.signal(n, lambda n, _: sys.exit(n))\ntime.sleep(60)"
    command = [BROWNOUT, "exec", str(file), "--admin", "127.0.0.1:0", "--", sys.executable, "-c", program]
    # Away from a terminal, whose keys would reach the program without us.
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.wait(PATIENCE) == number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_nothing_is_left_behind(number, file, environment, tmp_path):
    """Even a program that ignores what it is told; of its own children, those of a brownout that
    can still act."""
    pids = tmp_path / "pids"
    deaf = f"trap '' HUP; trap 'exit 9' TERM; setsid sleep 300 & echo $! $$ > {pids}; while :; do sleep 0.05; done"
    command = [BROWNOUT, "exec", str(file), "--admin", "127.0.0.1:0", "--", "sh", "-c", deaf]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    grandchild, child = map(int, pids.read_text().split())
    process.send_signal(number)
    process.wait(PATIENCE)
    try:
        gone(child, end)
        if number != signal.SIGKILL:
            gone(grandchild, end)
    finally:
        if number == signal.SIGKILL:
            os.kill(grandchild, signal.SIGKILL)


def gone(pid, end):
    while True:
        try:
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in "ZX":
            return
        assert time.monotonic() < end, f"{pid} is still there"
        time.sleep(0.02)


def test_env_shows_no_secret(file, tmp_path, environment):
    text = FILE.replace("forward: 0", "forward: 4999").replace("listen: 0", "listen: 4998")
    file.write_text(text)
    environment |= {
        "JAVA_TOOL_OPTIONS": "-Dpassword=s3cret",
        "MODEL": "http://me:s3cret@api.openai.com/",
        "HTTPS_PROXY": "http://me:s3cret@corporate:3128",
    }
    for form in ("sh", "dotenv", "json", "github", "docker"):
        shown = subprocess.run(
            [BROWNOUT, "env", str(file), "--format", form], env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert shown.returncode == 0, shown.stderr
        assert "s3cret" not in shown.stdout + shown.stderr
        assert "http://127.0.0.1:4999" in shown.stdout and "4998/v1" in shown.stdout
    exported = subprocess.run(
        ["sh", "-c", f'eval "$({BROWNOUT} env {file})"; echo "$HTTPS_PROXY $OPENAI_BASE_URL $NODE_OPTIONS"'],
        env=environment, capture_output=True, text=True, timeout=PATIENCE,
    )
    assert exported.stdout.startswith("http://127.0.0.1:4999 http://127.0.0.1:4998/v1 --require="), exported
