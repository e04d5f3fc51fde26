"""chat.py against a loopback endpoint that drops, refuses, delays and talks nonsense; on a fake clock."""

import json
import threading
import time
from email.utils import formatdate
from itertools import pairwise

import chat_server
import pytest
from chat_server import FakeClock, completion, serving

import augmentation
from minbert.augment import chat
from minbert.augment.chat import ATTEMPTS, Answer, Chat, Ending, Failed, Pace, api_key, retry_after
from minbert.files import UserError

KEY = "sk-test-0123456789abcdef"
ERROR = json.dumps({"error": {"message": "slow down"}}).encode()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def client(server, clock):
    return Chat(server.url, "m", KEY, pace=Pace(clock=clock, wait=clock.wait))


def behaves(server, *hows):
    """The first requests are treated so, later ones are answered."""
    server.behave = lambda row, n: hows[n - 1] if n <= len(hows) else None


# ------------------------------------------------------------------------------------------------------------- requests


def test_what_is_sent(server):
    extra = {"repetition_penalty": 1, "temperature": 0.25}
    asked = Chat(server.url + "/", "a-model", KEY, temperature=0.5, max_tokens=7, extra=extra).ask("Say é\n{x}")
    assert asked == Answer("changed {x}", "stop")
    assert server.paths == ["/v1/chat/completions"]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.bodies == [
        {
            "model": "a-model",
            "temperature": 0.25,
            "max_tokens": 7,
            "repetition_penalty": 1,
            "messages": [{"role": "user", "content": "Say é\n{x}"}],
        }
    ]


def test_without_a_key_no_header(server):
    Chat(server.url, "m").ask("hello")
    assert "Authorization" not in server.headers[0]
    assert server.bodies[0].keys() == {"model", "temperature", "messages"}


def test_texts_that_are_hard_to_carry(server, client):
    behaves(
        server, completion("half \ud83d of a pair").encode(), completion(None).encode(), b"x" * (chat.MOST_BYTES + 1)
    )
    assert client.ask("a").text == "half ? of a pair"
    assert client.ask("a").text == ""
    assert client.ask("a") == Answer("", "length")


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_proxies_do_not_see_loopback(server, monkeypatch, name, host):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with serving() as proxy:
        monkeypatch.setenv(name, proxy.url)
        Chat(server.url.replace("127.0.0.1", host), "m", KEY).ask("hello")
        assert not proxy.paths
        if name != "all_proxy":
            Chat("http://chat.invalid/v1", "m").ask("hello")
            assert proxy.paths == ["http://chat.invalid/v1/chat/completions"]


# -------------------------------------------------------------------------------------------------- trouble that passes

TROUBLE = {
    "dropped": "drop",
    "429": (429, {}, ERROR),
    "408": (408, {}, b""),
    "500": (500, {}, b"<html>oh no</html>"),
    "503": (503, {}, b""),
    "no JSON": b"{'choices': ",
    "not UTF-8": b'{"choices": "\xff"}',
    "an error in a 200": ERROR,
    "no choices": b'{"choices": []}',
    "a list": b"[1]",
    "no text": json.dumps({"choices": [{"message": {"content": [1]}}]}).encode(),
    "deep": b"[" * 200_000,
    "cut": (200, {"Content-Length": 1000}, b'{"choices"'),
    "a cut chunk": (200, {"Transfer-Encoding": "chunked"}, b'9\r\n{"choi'),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_trouble_that_passes(server, client, clock, trouble):
    behaves(server, TROUBLE[trouble], TROUBLE[trouble])
    assert client.ask("a text r1").text == "changed a text r1"
    assert server.asked["r1"] == 3
    assert len(clock.waits) == 2
    assert 0.5 <= clock.waits[0] <= 1 <= clock.waits[1] <= 2


def test_trouble_that_does_not_pass(server, client, clock):
    """Each pause is a half to a whole of 1, 2, 4 ... seconds, drawn anew."""
    server.behave = lambda row, n: (429, {}, ERROR)
    for _ in range(2):
        with pytest.raises(Failed, match=r"the endpoint answered 429 Too Many Requests: 'slow down', after 6 attempts"):
            client.ask("a")
    assert server.asked[None] == 2 * ATTEMPTS
    first, second = clock.waits[: ATTEMPTS - 1], clock.waits[ATTEMPTS - 1 :]
    assert all(2**k / 2 <= wait <= 2**k for waits in (first, second) for k, wait in enumerate(waits))
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_nobody_there(clock):
    with serving() as server:
        url = server.url
    with pytest.raises(Failed, match="refused, after 6 attempts"):
        Chat(url, "m", pace=Pace(clock=clock, wait=clock.wait)).ask("a")


def test_a_silent_endpoint_is_not_waited_for(server, clock):
    server.delay = 0.4
    with pytest.raises(Failed, match="timed out, after 6 attempts"):
        Chat(server.url, "m", timeout=0.05, pace=Pace(clock=clock, wait=clock.wait)).ask("a")


# ---------------------------------------------------------------------------------------------------------- Retry-After


def test_what_retry_after_says():
    assert retry_after("7") == 7
    assert retry_after("1.5") == 1.5
    assert retry_after("-3") == 0
    assert [retry_after(nothing) for nothing in (None, "", "soon", "nan", "inf", "Wed, 99 Foo 2000")] == [None] * 6
    assert retry_after(formatdate(time.time() + 90, usegmt=True)) == pytest.approx(90, abs=2)
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("value", ["30", "a date"])
def test_retry_after_is_honoured(server, client, clock, status, value):
    value = formatdate(time.time() + 30, usegmt=True) if value == "a date" else value
    behaves(server, (status, {"Retry-After": value}, ERROR))
    client.ask("a")
    assert sum(clock.waits) == pytest.approx(30, abs=2)


def test_retry_after_holds_everyone(server, client, clock):
    behaves(server, (429, {"Retry-After": "60"}, ERROR))
    started = clock()
    reached = threading.Event()
    plain, client.pace.wait = client.pace.wait, lambda seconds: reached.set() or (release.wait() and plain(seconds))
    release = threading.Event()
    first = threading.Thread(target=client.ask, args=("a",))
    first.start()
    assert reached.wait(10)  # the first thread was told to wait, and does
    client.pace.wait = plain
    client.ask("b")
    assert clock() - started >= 60
    release.set()
    first.join()


def test_a_wait_of_hours_ends_the_command(server, client, clock):
    behaves(server, (429, {"Retry-After": "7200"}, ERROR))
    with pytest.raises(UserError, match=r"asks to wait 7,200 s; run the same command then"):
        client.ask("a")
    assert not clock.waits


# ------------------------------------------------------------------------------------------------------ lasting trouble


@pytest.mark.parametrize("status", [301, 307, 401, 402, 404, 405])
def test_what_no_request_would_survive(server, client, status):
    with serving() as elsewhere:
        server.behave = lambda row, n: (status, {"Location": elsewhere.url}, b"")
        with pytest.raises(UserError, match=f"answered {status} .*; check --base_url, --model and --api_key_env"):
            client.ask("a")
        assert server.asked[None] == 1
        assert not elsewhere.paths  # a redirect would carry the key along


@pytest.mark.parametrize("location", ["http://[", "http://[::1", "ftp://a/b", "file:///etc/passwd", "http://a:b/", ""])
def test_a_redirect_to_nowhere(server, client, location):
    server.behave = lambda row, n: (302, {"Location": location}, b"")
    with pytest.raises(UserError, match=r"answered 302 .*; check --base_url"):
        client.ask("a")


@pytest.mark.parametrize(("status", "kind"), [(400, Failed), (401, UserError), (500, Failed)])
def test_what_an_endpoint_says_is_one_line(server, client, status, kind):
    """A status line may carry line ends of other alphabets, and orders to the terminal."""
    server.behave = lambda row, n: (status, {"reason": "no\x85\x1b[31mway\x0bat  all"}, b"two\n\nlines\x1b[0m")
    with pytest.raises(kind, match=rf"answered {status} no \[31mway at all: 'two lines") as caught:
        client.ask("a")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("status", [400, 403, 413, 422])
def test_what_is_wrong_with_one_prompt(server, client, status):
    server.behave = lambda row, n: (status, {}, ERROR)
    with pytest.raises(Failed, match=f"the endpoint answered {status} .*: 'slow down'$"):
        client.ask("a")
    assert server.asked[None] == 1


# -------------------------------------------------------------------------------------------------------------- the key


def test_the_key_is_taken_out_of_what_comes_back(server, client):
    echo = json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode()
    escaped = json.dumps(KEY).replace("s", "\\u0073", 1).encode()
    answers = [
        completion(f"I saw {KEY} there").encode(),
        b'{"choices": [{"finish_reason": %s, "message": {"content": %s}}]}' % (escaped, escaped),
    ]
    behaves(server, *answers)
    assert client.ask("a") == Answer("I saw [key] there", "stop")
    assert client.ask("a") == Answer("[key]", "[key]")
    for how, kind in (
        ((401, {}, echo), UserError),
        ((400, {}, echo), Failed),
        ((500, {}, KEY.encode()), Failed),
        ((503, {"reason": f"no {KEY}"}, b""), Failed),
        *(((400, {}, b"x" * n + KEY.encode()), Failed) for n in range(170, 205)),  # where the message is cut
    ):
        server.behave = lambda row, n, how=how: how
        with pytest.raises(kind) as caught:
            client.ask("a")
        assert KEY[:5] not in str(caught.value)
        assert caught.value.__cause__ is None
    assert KEY not in repr(client) + str(client)


def test_a_word_that_servers_take_for_a_key_stays_in_texts(server):
    behaves(server, "none of the films")
    assert Chat(server.url, "m", "none").ask("a").text == "none of the films"


@pytest.mark.parametrize("value", [None, "", "  ", f"{KEY}\n{KEY}", f"two {KEY}", f"{KEY}é", f"{KEY}\x7f"])
def test_a_key_that_is_none_is_not_shown(monkeypatch, value):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    for name in ("MY_KEY", KEY):  # or the key itself, given by mistake
        with pytest.raises(UserError, match=r"^--api_key_env: the ") as caught:
            api_key(name)
        assert KEY not in str(caught.value)


def test_a_key_with_a_newline_behind_it(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY + "\n")
    assert api_key("MY_KEY") == KEY


BAD = ["", "localhost:8000", "ftp://a/v1", "http://", "http:///v1", "http://a:b/v1", "http://a b/v1", "http://a/\n"]


@pytest.mark.parametrize("address", [*BAD, "http://a:99999/v1", "http://é.org/v1"])
def test_addresses_that_are_none(address):
    with pytest.raises(UserError, match="expected an address such as"):
        Chat(address, "m")


SECRETS = [f"http://u:{KEY}@a/v1", f"http://a/v1?key={KEY}", f"http://a/v1#{KEY}"]


@pytest.mark.parametrize("address", [*SECRETS, f"http://u:{KEY}@a:b/v1", f"ftp://u:{KEY}@a/v1", f"u:{KEY}@a/v1"])
def test_no_secret_in_the_address(address):
    with pytest.raises(UserError, match="no name, password") as caught:
        Chat(address, "m")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("host", ["chat.invalid", "10.0.0.7:8000", "localhost.org", "127.0.0.1.org"])
def test_a_key_is_not_sent_in_the_open(host):
    for scheme in ("http", "HTTP"):
        with pytest.raises(UserError, match=r"unencrypted.*--allow_plain_http") as caught:
            Chat(f"{scheme}://{host}/v1", "m", KEY)
        assert KEY not in str(caught.value)
    Chat(f"http://{host}/v1", "m")
    Chat(f"https://{host}/v1", "m", KEY)
    assert Chat(f"http://{host}/v1", "m", KEY, allow_plain_http=True).headers["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1:8000", "127.8.0.1", "[::1]:8000"])
def test_this_machine_may_have_it(host):
    assert Chat(f"http://{host}/v1", "m", KEY).headers["Authorization"] == f"Bearer {KEY}"


def test_the_flag_for_a_network_of_one_s_own(server, tmp_path, monkeypatch, capsys):
    """The endpoint is found by way of a proxy."""
    chat_server.source(tmp_path, 1)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("MY_KEY", KEY)
    words = chat_server.command(tmp_path, server)("back_translation", "--api_key_env", "MY_KEY")
    words[words.index(server.url)] = "http://chat.invalid/v1"
    assert augmentation.main(words) == 2
    assert capsys.readouterr().err.startswith("error: http://chat.invalid/v1/chat/completions: the key would be sent")
    assert augmentation.main([*words, "--allow_plain_http"]) == 0
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


# ------------------------------------------------------------------------------------------------------------- the rate


def test_requests_are_spaced_evenly(clock):
    pace, starts = Pace(30, clock, clock.wait), []
    for work in (0, 0.5, 0, 7, 0):
        pace.turn()
        starts.append(clock.now - 1000)
        clock.now += work
    assert starts == [0, 2, 4, 6, 13]
    assert pace.turns == 5


def test_the_rate_holds_for_all_threads_together_and_with_retries(server, clock):
    starts = []

    class Recorded(Pace):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "free_at":
                starts.append(value)  # under Pace's lock

    client = Chat(server.url, "m", pace=Recorded(60, clock, clock.wait))
    starts.clear()
    server.behave = lambda row, n: (500, {}, b"") if n == 1 else None
    threads = [threading.Thread(target=client.ask, args=(f"r{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 16
    assert all(b - a >= 1 - 1e-9 for a, b in pairwise(starts))


def test_stopping_ends_every_wait():
    pace = Pace(rate=0.01)
    pace.turn()
    ended = []

    def waits(how):
        with pytest.raises(Ending):
            how()
        ended.append(how)

    threads = [threading.Thread(target=waits, args=(how,)) for how in (pace.turn, pace.turn, lambda: pace.pause(1000))]
    for thread in threads:
        thread.start()
    pace.stop()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3
    with pytest.raises(Ending):
        pace.turn()
