"""Sends webhooks: signed by Standard Webhooks 1.0.0, and only to where strangers may point us.

A tenant names the URL, so it must not open what only the mesh can reach. Every address that a name
resolves to is looked at when the connection is made, not before: a name may resolve anew.
"""

import asyncio
import datetime
import email.utils
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from standardwebhooks.webhooks import Webhook
from yarl import URL

from services.chassis.environment import ConfigurationError
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.webhook import URL_CHARACTERS_MAX, Attempt

SECONDS_MAX = 20.0
USER_AGENT = "trine-webhooks/1"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")
"""Assigned to protocols (RFC 6890); the library takes most of it to be public."""
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All of IPv6 that is in use; what stands beside it the library takes to be public."""
_HTTPS_PORT, _PORT_MIN = 443, 1024
"""Below are other services' ports, to whom a strange client's hello may mean something."""


class AddressRefusedError(OSError):
    """A host is at no address that webhooks may reach."""


def read_networks(text: str) -> tuple[Network, ...]:
    """Networks, separated by commas.

    Raises:
        ConfigurationError: one is malformed.
    """
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigurationError(f"TRINE_WEBHOOK_NETWORKS: {error}") from None


class HttpWebhookSender:
    """Sends over HTTPS to public addresses, and to the networks that the operator allows."""

    def __init__(self, session: aiohttp.ClientSession, allowed: Sequence[Network]) -> None:
        self._session = session
        self._allowed = allowed

    def check_url(self, url: str) -> None:
        """Refuses what will never be sent to. Plain HTTP is for the operator's own networks."""
        try:
            parsed = URL(url)
            known = bool(parsed.host) and parsed.port is not None
        except ValueError:
            known = False
        if not known or len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable():
            raise FieldInvalidError("url", f"a URL of at most {URL_CHARACTERS_MAX} characters")
        if parsed.user is not None or parsed.password is not None or parsed.fragment:
            raise FieldInvalidError("url", "a URL without user, password and fragment")
        inside = self._is_inside(parsed.host or "")
        if parsed.scheme != "https" and not (parsed.scheme == "http" and inside):
            raise FieldInvalidError("url", "an https URL")
        if not inside and parsed.port != _HTTPS_PORT and (parsed.port or 0) < _PORT_MIN:
            raise FieldInvalidError(
                "url", f"a URL of port {_HTTPS_PORT}, or of {_PORT_MIN} and above"
            )
        address = _literal(parsed.host or "")
        if address is not None and not may_reach(address, self._allowed):
            raise FieldInvalidError("url", "a URL of a public host")

    async def send(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        message_id: str,
        body: str,
        now: datetime.datetime,
    ) -> Attempt:
        """Sends once; whatever goes wrong is in the attempt, in words that tell nothing inner."""
        try:
            self.check_url(url)  # what is allowed may have changed since it was named
            async with self._session.post(
                url,
                data=body.encode(),
                headers=_headers(secrets, message_id, body, now),
                allow_redirects=False,
            ) as response:
                again = response.headers.get("retry-after", "")
                return Attempt(response.status, retry_after_seconds=_seconds(again, now))
        except FieldInvalidError:
            return Attempt(None, "its address may not be reached")
        except (TimeoutError, aiohttp.ServerTimeoutError):
            return Attempt(None, f"no answer within {SECONDS_MAX:.0f} seconds")
        except aiohttp.ClientSSLError:
            return Attempt(None, "its certificate is not good")
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, AddressRefusedError)
            failure = "its address may not be reached" if refused else "it cannot be connected to"
            return Attempt(None, failure)
        except (aiohttp.ClientError, OSError):
            return Attempt(None, "the connection broke off")

    def _is_inside(self, host: str) -> bool:
        address = _literal(host)
        return address is not None and _is_in(address, self._allowed)


@asynccontextmanager
async def open_sender(networks: str) -> AsyncIterator[HttpWebhookSender]:
    """A sender for as long as the block lasts.

    Raises:
        ConfigurationError: the networks are malformed.
    """
    allowed = read_networks(networks)
    connector = aiohttp.TCPConnector(resolver=_GuardedResolver(allowed), force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=SECONDS_MAX),
        headers={"user-agent": USER_AGENT, "content-type": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    ) as session:
        yield HttpWebhookSender(session, allowed)


def may_reach(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an address is public or allowed; one that carries another is judged by both."""
    if _is_in(address, allowed):
        return True
    inner = _carried(address)
    if inner is not None and not may_reach(inner, allowed):
        return False
    if address.version == 6 and address not in _GLOBAL_UNICAST and address not in _NAT64:
        return False
    return address.is_global and not address.is_multicast and address not in _PROTOCOLS


class _GuardedResolver(AbstractResolver):
    """Resolves names to addresses that may be reached, and to no others."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await aiohttp.ThreadedResolver(asyncio.get_running_loop()).resolve(
            host, port, family
        )
        good = [each for each in found if may_reach(_address(each["host"]), self._allowed)]
        if not good:
            raise AddressRefusedError(f"{host} is at no address that may be reached")
        return good

    async def close(self) -> None:
        """Nothing is held."""


def _headers(
    secrets: Sequence[str], message_id: str, body: str, now: datetime.datetime
) -> dict[str, str]:
    signatures = [Webhook(secret).sign(message_id, now, body) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _seconds(retry_after: str, now: datetime.datetime) -> float:
    """Seconds to wait by a Retry-After, which may be a number or a date (RFC 9110 §10.2.3)."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(retry_after) - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def _literal(host: str) -> Address | None:
    try:
        return _address(host)
    except ValueError:
        return None


def _address(host: str) -> Address:
    return ipaddress.ip_address(host.partition("%")[0])


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one that some gateway would turn into it."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
