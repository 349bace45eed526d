"""Posts an alert to a webhook: signed, and tried again until the receiver has it.

The request is `POST` with the alert as JSON and these headers, besides Content-Type:

    Idempotency-Key: the alert's id, the same however often it is posted
    Millstream-Signature: t=<seconds since 1970>,v1=<hex of HMAC-SHA256(secret, "<t>." + body)>

Any 2xx answer says that the receiver has it. No answer, 5xx, 408, 425 and 429 are tried again with
backoff, a Retry-After heeded. Any other answer can't be mended by trying: it ends the process with the
alert not committed, for skipping an alert is worse than standing still.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable
from threading import Event

import urllib3
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    wait_exponential,
)
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry, Url, parse_url

from infra.contracts.errors import TransientError, UserError
from infra.contracts.events import Alert, encode

RETRY_FOR_S = 15 * 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
LONGEST_ASKED_WAIT_S = 60.0
TIMEOUT = urllib3.Timeout(connect=5, read=10)
TOLERANCE_S = 300
STAMP = re.compile(r"[0-9]{1,12}")
SIGNATURE_HEADER = "Millstream-Signature"
AGAIN = (408, 425, 429)
LOG_EVERY = 10

log = logging.getLogger(__name__)


class WebhookUnavailableError(TransientError):
    """The receiver does not have the alert and may take it later; it asks to wait `wait_s` seconds."""

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class PostCancelledError(Exception):
    """The alert was not posted, because its sender was told to stop."""


def signature(secret: bytes, timestamp_s: int, body: bytes) -> str:
    """The signature header of a body that is posted at a time in seconds since 1970."""
    digest = hmac.new(secret, b"%d." % timestamp_s + body, "sha256").hexdigest()
    return f"t={timestamp_s},v1={digest}"


def is_genuine(secret: bytes, header: str, body: bytes, now_s: float) -> bool:
    """For a receiver: whether the header signs this body, at most TOLERANCE_S seconds from now."""
    stamp, _, _ = header.removeprefix("t=").partition(",")
    if not STAMP.fullmatch(stamp) or abs(now_s - int(stamp)) > TOLERANCE_S:
        return False
    return hmac.compare_digest(header.encode(errors="replace"), signature(secret, int(stamp), body).encode())


class Webhook:
    """A receiver of alerts. May be used by several threads."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        retry_for_s: float = RETRY_FOR_S,
        clock: Callable[[], float] = time.time,
        on_retry: Callable[[float], None] = lambda _: None,
        connections: int = 8,
    ) -> None:
        """`retry_for_s` is for each alert. `clock` gives seconds since 1970. Raises UserError.

        `on_retry` gets the seconds until a post is tried again; `connections` stay open.
        """
        address = _checked(url)
        if not secret:
            raise UserError(
                "alerts are signed: set MILLSTREAM_WEBHOOK_SECRET to a secret that the receiver knows"
            )
        self._url, self._secret = url, secret.encode()
        self.name = f"{address.scheme}://{address.netloc}"  # the rest may hold a secret
        self._retry_for_s, self._clock, self._on_retry = retry_for_s, clock, on_retry
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT, maxsize=connections)
        self.trouble: str | None = None
        """Why the last post failed; None when it did not."""

    def send(self, alert: Alert, cancelled: Event) -> float:
        """Post an alert until the receiver has it; the time then, in seconds since 1970.

        Raises WebhookUnavailableError after `retry_for_s`, UserError for a refusal for good, and
        PostCancelledError soon after `cancelled` is set.
        """
        retries = Retrying(
            retry=retry_if_exception_type(WebhookUnavailableError),
            wait=_wait,
            stop=stop_after_delay(self._retry_for_s),
            sleep=sleep_using_event(cancelled),
            before_sleep=self._note,
            reraise=True,
        )
        return retries(self._try, alert.alert_id, encode(alert), cancelled)

    def _try(self, alert_id: str, body: bytes, cancelled: Event) -> float:
        if cancelled.is_set():
            raise PostCancelledError(alert_id)
        status, reason, retry_after = self._post(alert_id, body)
        if 200 <= status < 300:
            self.trouble = None
            return self._clock()
        if status >= 500 or status in AGAIN:
            raise WebhookUnavailableError(
                f"the webhook at {self.name} answers {status} {reason}", _asked_wait_s(retry_after)
            )
        raise UserError(
            f"the webhook at {self.name} refuses alert {alert_id} with {status} {reason}: mend the receiver, "
            "its address or the secret, and start again; no alert is skipped"
        )

    def _post(self, alert_id: str, body: bytes) -> tuple[int, str, str | None]:
        """Status, reason and Retry-After of one post."""
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": alert_id,
            SIGNATURE_HEADER: signature(self._secret, int(self._clock()), body),
        }
        try:
            response = self._pool.request("POST", self._url, body=body, headers=headers)
        except HTTPError as error:
            raise WebhookUnavailableError(
                f"the webhook at {self.name} does not answer: {type(error).__name__}"
            ) from error
        return response.status, response.reason or "", response.headers.get("Retry-After")

    def _note(self, state: RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        self.trouble = str(state.outcome.exception())
        self._on_retry(state.next_action.sleep)
        if state.attempt_number % LOG_EVERY == 1:
            log.warning("%s; tried again for up to %.0f s", self.trouble, self._retry_for_s)


def _wait(state: RetryCallState) -> float:
    """Seconds until the next try: what the receiver asks for within reason, but not less than the backoff."""
    assert state.outcome is not None
    error = state.outcome.exception()
    asked_s = error.wait_s if isinstance(error, WebhookUnavailableError) else 0
    backoff_s = wait_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)(state)
    return max(backoff_s, min(asked_s, LONGEST_ASKED_WAIT_S))


def _asked_wait_s(retry_after: str | None) -> float:
    """The seconds of a Retry-After header, which has seconds or a date; 0 without a usable one."""
    if retry_after is None:
        return 0
    try:
        return Retry().parse_retry_after(retry_after)
    except (InvalidHeader, ValueError, OverflowError):  # the others for numbers that are too large
        return 0


def _checked(url: str) -> Url:
    try:
        address = parse_url(url)
    except HTTPError:
        address = Url()
    if address.scheme not in ("http", "https") or not address.host:
        raise UserError(
            "the webhook's address must be http://... or https://...: "
            "give --url or set MILLSTREAM_WEBHOOK_URL"
        )
    return address
