"""A small client for any OpenAI-compatible chat endpoint: one prompt in, one answer out, by Python's own http.

POST {base_url}/chat/completions with {"model", "messages", "temperature", ...}; the answer is the content of the first
choice. No client library: the one that huggingface_hub brings has changed its name between that package's versions.

After trouble that may pass (a dropped connection, a time-out, 408, 409, 425, 429, 5xx, an answer that is no such JSON)
a request is made again: after an exponential back-off with jitter, and not before `Retry-After` says (RFC 9110, section
10.2.3: seconds or a date). The rest raises at once: Failed where it is this request's trouble, UserError where it is
everyone's (a wrong key, a wrong address).

The key stands in the request's header alone. It is not sent unencrypted to another machine unless that is allowed, and
it is taken out of whatever the endpoint sends back; redirects are not followed (they would carry the header to another
host), and proxies named in the environment do not see loopback.
"""

import email.utils
import http.client
import json
import math
import os
import random
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import NamedTuple

from minbert.files import UserError, one_line, short
from minbert.readers import parse_json
from minbert.web import NoRedirects, checked_address, is_loopback

ATTEMPTS = 6
FIRST_PAUSE = 1.0  # seconds before the second attempt at most; doubled before each one after it
LONGEST_PAUSE = 600.0  # seconds; an endpoint that asks for more (a day's quota is used up) ends the command
MOST_BYTES = 1 << 22  # of an answer
SECRET_LENGTH = 8  # a shorter key ("none", "EMPTY", "ollama") is a word for servers that want any, and no secret
AGAIN = {408, 409, 425, 429}  # and 5xx
HOPELESS = {401, 402, 404, 405}  # every other request would fare the same; so with redirects


class Failed(Exception):
    """This request got no answer; its text says why. Nothing was answered, so asking again pays nothing twice."""


class Ending(Exception):
    """The command is ending: no further request is made."""


class Again(Exception):
    """One attempt failed in passing; `after`: the seconds that the endpoint asks to wait, or None."""

    def __init__(self, reason, after=None):
        super().__init__(reason)
        self.after = after


class Answer(NamedTuple):
    """`finish`: the endpoint's finish_reason: "length" where its limit of tokens cut the text, mostly "stop"."""

    text: str
    finish: str | None


class Pace:
    """When the next request may start, for all threads: `rate` requests a minute evenly spaced, none while held.

    clock: () -> seconds; wait: seconds -> whether the command has been stopped meanwhile.
    """

    def __init__(self, rate=None, clock=time.monotonic, wait=None):
        self.gap = 60 / rate if rate else 0.0  # seconds
        self.clock, self.stopped = clock, threading.Event()
        self.wait = wait or self.stopped.wait
        self.free_at = self.held_until = -math.inf
        self.turns = 0  # requests started
        self.lock = threading.Lock()

    def turn(self):
        """Return when a request may start. One thread waits, the others wait for it. Raises Ending."""
        with self.lock:
            while (delay := max(self.free_at, self.held_until) - self.clock()) > 0:
                self.pause(delay)
            if self.stopped.is_set():
                raise Ending
            self.free_at = self.clock() + self.gap
            self.turns += 1

    def hold(self, seconds):
        """No request starts for so long."""
        self.held_until = max(self.held_until, self.clock() + seconds)

    def pause(self, seconds):
        if self.wait(seconds):
            raise Ending

    def stop(self):
        """End every wait: what is on its way arrives, and nothing starts any more."""
        self.stopped.set()


class Chat:
    """An endpoint and how it is asked. extra: more members of each request's body. key: None, or what api_key() found;
    allow_plain_http: it may be sent unencrypted to another machine.

    Threads may share it. Raises UserError for an address that is none, or that would give the key away.
    """

    def __init__(
        self,
        base_url,
        model,
        key=None,
        temperature=0.5,
        max_tokens=None,
        extra=None,
        timeout=300,
        pace=None,
        allow_plain_http=False,
    ):
        self.url = checked_address(base_url, "http://localhost:8000/v1") + "/chat/completions"
        if key and self.url.startswith("http:") and not (is_loopback(self.url) or allow_plain_http):
            raise UserError(
                f"{self.url}: the key would be sent there unencrypted; take https, or allow it with --allow_plain_http"
            )
        self.headers = {"Content-Type": "application/json", "User-Agent": "minbert"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        self._secret = key if key and len(key) >= SECRET_LENGTH else None
        self.body = {"model": model, "temperature": temperature}
        if max_tokens:
            self.body["max_tokens"] = max_tokens
        self.body |= extra or {}
        self.timeout = timeout
        self.pace = pace or Pace()
        handlers = [NoRedirects()]
        if is_loopback(self.url):
            handlers.append(urllib.request.ProxyHandler({}))
        if self.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
        self.opener = urllib.request.build_opener(*handlers)

    def ask(self, prompt):
        """The endpoint's Answer to a prompt.

        Raises Failed when ATTEMPTS attempts failed or the endpoint refuses this prompt, UserError when it would refuse
        any, Ending when the command ends meanwhile.
        """
        data = json.dumps({**self.body, "messages": [{"role": "user", "content": prompt}]}).encode()
        for attempt in range(ATTEMPTS):
            self.pace.turn()
            try:
                return self._answer(self._post(data))
            except Again as error:
                failure = error
            if failure.after is not None:
                if failure.after > LONGEST_PAUSE:
                    raise UserError(
                        f"{self.url}: {failure}, and asks to wait {failure.after:,.0f} s; run the same command then"
                    )
                self.pace.hold(failure.after)
            if attempt + 1 < ATTEMPTS:
                self.pace.pause(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))
        raise Failed(f"{failure}, after {ATTEMPTS} attempts")

    def _post(self, data):
        """The bytes of the response to one request."""
        try:
            request = urllib.request.Request(self.url, data, self.headers)
            with self.opener.open(request, timeout=self.timeout) as response:
                return response.read(MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            self._refuse(error)
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # URLError is an OSError; Unicode: the host
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise UserError(f"{self.url}: its certificate is refused: {reason.verify_message}") from None
            raise Again(self._told(reason) or type(reason).__name__) from None

    def _refuse(self, error):
        """Raise what a response with another status than 200 means."""
        said = f"the endpoint answered {error.code} {self._told(error.reason)}".rstrip()
        try:
            content = error.read(MOST_BYTES).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            content = ""
        if content := self._told(_message(content)):  # before it is cut, or half a key would stay
            said += f": {short(content, 200)}"
        if error.code in AGAIN or error.code >= 500:
            raise Again(said, retry_after(error.headers.get("Retry-After"))) from None
        if error.code in HOPELESS or error.code < 400:
            raise UserError(f"{self.url}: {said}; check --base_url, --model and --api_key_env") from None
        raise Failed(said) from None

    def _answer(self, content):
        if len(content) > MOST_BYTES:
            return Answer("", "length")
        try:
            choice = parse_json(content)["choices"][0]
            text, finish = choice["message"]["content"], choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Again("the endpoint's answer is not JSON of a chat completion") from None
        if text is not None and not isinstance(text, str):
            raise Again("the endpoint's answer has no text")
        return Answer(self._redacted(text or ""), finish if finish is None else self._redacted(str(finish)))

    def _told(self, text):
        """What the endpoint says, for a message."""
        return one_line(self._redacted(str(text)))

    def _redacted(self, text):
        return text.replace(self._secret, "[key]") if self._secret else text


def api_key(name):
    """The key in the environment variable `name`. Raises UserError, which never shows a value."""
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError("--api_key_env: the environment has no variable of that name, or an empty one")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError("--api_key_env: the variable's value is no key: it has spaces or characters outside ASCII")
    return key


def retry_after(value):
    """The seconds that a Retry-After header asks to wait, or None where it says nothing that can be read."""
    try:
        seconds = float(value)
    except TypeError:  # no such header
        return None
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _message(content):
    """What an error's body says: {"error": {"message": ...}} as most endpoints have it, or the body itself."""
    try:
        return str(parse_json(content)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return content
