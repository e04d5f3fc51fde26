"""Addresses on the web: which ones are asked, and where a redirect may lead. For the chat client and data/download.py.

An address is printed in messages, so one that carries a password or a token is refused without being shown.
"""

import ipaddress
import urllib.request
from urllib.parse import urljoin, urlsplit

from minbert.files import UserError, short


def checked_address(address, such_as):
    """--base_url without a slash at its end. Raises UserError for what is no http(s) address, or carries a secret."""
    if any(mark in address for mark in "@?#"):
        raise UserError(f"--base_url: no name, password, @, ? or # may be in it; expected an address such as {such_as}")
    if not _usable(address) or not address.isascii() or not address.isprintable() or " " in address:
        raise UserError(f"--base_url {short(address)}: expected an address such as {such_as}")
    return urlsplit(address).geturl().rstrip("/")  # geturl: the scheme in small letters


def _usable(address, schemes=("http", "https")):
    try:
        parts = urlsplit(address)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets, or a port that is no number
        return False


def is_loopback(address):
    """Whether what is sent to an address stays on this machine."""
    host = urlsplit(address).hostname
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other, whatever address it names: a header with a key goes nowhere else."""

    def http_error_302(self, *_):
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to a sound http(s) address, but not out of https. It may carry a token, so only the server
    that sent it is named."""

    def http_error_302(self, request, response, code, reason, headers):
        target = _joined(request.full_url, headers.get("Location", headers.get("URI", "")))  # as urllib looks for it
        schemes = ("https",) if request.type == "https" else ("http", "https")
        if not _usable(target, schemes) or "@" in urlsplit(target).netloc:
            response.close()
            raise UserError(
                f"{request.type}://{request.host} redirects to an address that is not followed: malformed, with a "
                f"name in it, or not {' or '.join(schemes)}; choose another server with --base_url"
            )
        return super().http_error_302(request, response, code, reason, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _joined(address, location):
    try:
        return urljoin(address, location)
    except ValueError:
        return ""
