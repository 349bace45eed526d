"""Posting to a webhook: signed, tried again, refused. The receiver is a real HTTP server."""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from infra.contracts.errors import UserError
from stream_consumers.webhook import (
    TOLERANCE_S,
    PostCancelledError,
    Webhook,
    WebhookUnavailableError,
    is_genuine,
    signature,
)
from tests.alert_cases import SECRET, alert, held_port, receiving
from tests.stream_cases import wait

BODY = b'{"alert_id":"1"}'


def test_a_signature_is_of_time_and_body() -> None:
    """It has the documented form, and is genuine for this secret, body and time only."""
    header = signature(b"secret", 1_700_000_000, BODY)
    # printf '1700000000.{"alert_id":"1"}' | openssl dgst -sha256 -hmac secret
    assert header == ("t=1700000000,v1=4e4f21fcb77f38edf81ab404ef0a7b4150f95042040c93ccc5c607baf8d074dc")
    now = 1_700_000_000.0
    assert is_genuine(b"secret", header, BODY, now + TOLERANCE_S)
    assert not is_genuine(b"secret", header, BODY, now + TOLERANCE_S + 1)
    assert not is_genuine(b"secret", header, BODY, now - TOLERANCE_S - 1)
    assert not is_genuine(b"other", header, BODY, now)
    assert not is_genuine(b"secret", header, BODY + b" ", now)
    assert not is_genuine(b"secret", header.replace("t=1700000000", "t=1700000001"), BODY, now)


@pytest.mark.parametrize(
    "header",
    [
        *("", "t=", "t=x,v1=00", "v1=00", "t=²,v1=00", "t=1700000000", "é"),
        *(f"t={'9' * digits},v1=00" for digits in (13, 400, 5_000)),
        "t=1700000000,v1=\udcff",
    ],
    ids=lambda header: ascii(header[:20]),
)
def test_a_header_that_is_none_is_not_genuine(header: str) -> None:
    """It is false, not an error."""
    assert not is_genuine(b"secret", header, BODY, 1_700_000_000.0)


def test_a_post_has_key_body_and_signature() -> None:
    """The receiver verifies the signature, and finds the alert with its id as the key."""
    with receiving() as receiver:
        before = time.time()
        at = Webhook(receiver.url, SECRET).send(alert(7), Event())
        (post,) = receiver.posts
    assert post.key == post.alert["alert_id"] == "transactions-7"
    assert post.alert["amount_cents"] == 123405
    assert post.is_genuine
    assert before <= at <= time.time()


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """The alert arrives once after two such answers, and each retry is told."""
    retries: list[str | None] = []
    with receiving(answers=[(status, {}), (status, {})]) as receiver:
        webhook = Webhook(receiver.url, SECRET, on_retry=lambda _: retries.append(webhook.trouble))
        webhook.send(alert(1), Event())
        assert len(receiver.posts) == 1
    assert len(retries) == 2
    assert str(status) in str(retries[0])
    assert webhook.trouble is None


def test_a_receiver_that_is_down_gets_the_alert_when_it_is_up() -> None:
    """Connections are refused first; the receiver comes up on the same port later."""
    with held_port() as port:
        webhook = Webhook(f"http://127.0.0.1:{port}/", SECRET)
        sending = Thread(target=webhook.send, args=(alert(1), Event()))
        sending.start()
        wait(lambda: webhook.trouble is not None)
        with receiving(port) as receiver:
            sending.join()
            assert [post.key for post in receiver.posts] == ["transactions-1"]


def test_the_receiver_says_when_to_come_again() -> None:
    """Retry-After is heeded, in seconds and as a date, if it is longer than the backoff; nonsense is not."""
    said = ["2", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"]
    waits: list[float] = []
    with receiving(answers=[(429, {"Retry-After": text}) for text in said]) as receiver:
        Webhook(receiver.url, SECRET, on_retry=waits.append).send(alert(1), Event())
        assert len(receiver.posts) == 1
    assert waits == [2, 1, 2]


@pytest.mark.parametrize(
    "text",
    ["9" * 5_000, "Fri, 31 Dec 99999 23:59:59 GMT", f"Fri, 31 Dec {'9' * 30} 23:59:59 GMT"],
    ids=["digits", "year", "longer year"],
)
def test_a_time_that_no_clock_has_is_none(text: str) -> None:
    """The alert is tried again after the backoff."""
    waits: list[float] = []
    with receiving(answers=[(503, {"Retry-After": text})]) as receiver:
        Webhook(receiver.url, SECRET, on_retry=waits.append).send(alert(1), Event())
        assert len(receiver.posts) == 1
    assert waits == [0.5]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 422])
def test_a_refusal_is_a_users_mistake(status: int) -> None:
    """One line with the status and the place, without the address's path, which may be a secret."""
    with receiving(answers=[(status, {"Location": "/"})]) as receiver:
        with pytest.raises(UserError, match=str(status)) as caught:
            Webhook(f"{receiver.url}/hidden", SECRET).send(alert(1), Event())
        assert not receiver.posts
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_trying_ends() -> None:
    """After the time for an alert the last failure is raised."""
    with held_port() as port, pytest.raises(WebhookUnavailableError, match="does not answer"):
        Webhook(f"http://127.0.0.1:{port}/", SECRET, retry_for_s=0.6).send(alert(1), Event())


def test_trying_can_be_cancelled() -> None:
    """Soon, also during a long wait, and without another post."""
    answers = [(503, {"Retry-After": "60"})]
    with receiving(answers=answers) as receiver:
        webhook, cancelled = Webhook(receiver.url, SECRET), Event()
        failures: list[Exception] = []
        sending = Thread(target=lambda: failures.extend(_failure(webhook, cancelled)))
        sending.start()
        wait(lambda: webhook.trouble is not None)
        cancelled.set()
        sending.join(5)
        assert not sending.is_alive()
        assert isinstance(failures[0], PostCancelledError)
        assert not receiver.posts


def _failure(webhook: Webhook, cancelled: Event) -> list[Exception]:
    try:
        webhook.send(alert(1), cancelled)
    except PostCancelledError as error:
        return [error]
    return []


@pytest.mark.parametrize(
    ("url", "secret", "words"),
    [
        ("", SECRET, "MILLSTREAM_WEBHOOK_URL"),
        ("ftp://host/", SECRET, "http"),
        ("http://[", SECRET, "http"),
        ("https://host/", "", "MILLSTREAM_WEBHOOK_SECRET"),
    ],
)
def test_what_a_webhook_needs(url: str, secret: str, words: str) -> None:
    """An address and a secret; without either it is a user's mistake."""
    with pytest.raises(UserError, match=words):
        Webhook(url, secret)


def test_the_address_shows_no_secret() -> None:
    """Neither user and password nor the path is in the name for messages."""
    name = Webhook("https://me:hidden@example.com:8443/hidden?hidden=1", SECRET).name
    assert name == "https://example.com:8443"
