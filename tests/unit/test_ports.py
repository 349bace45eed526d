"""Ports of servers: free, apart from each other, and none that an outgoing connection can be given."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from infra.contracts.errors import UserError
from infra.local import ports
from infra.local.ports import HOST, free_ports
from infra.local.s3 import GRPC_OFFSET as OFFSET

FIRST_EPHEMERAL = 32_768  # ip_local_port_range as Linux has it


def test_ports_are_apart_and_can_be_bound_with_their_partners() -> None:
    """Each of them and the port at the offset above it."""
    found = free_ports(5, OFFSET)
    with ExitStack() as bound:
        for port in (*found, *(port + OFFSET for port in found)):
            bound.enter_context(socket.socket()).bind((HOST, port))


def test_outgoing_connections_take_none_of_them() -> None:
    """Nor a partner: Linux gives them ports from 32768 on, macOS from 49152."""
    assert max(ports.CANDIDATES) + OFFSET < FIRST_EPHEMERAL


def test_a_port_with_a_taken_partner_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only candidate is free, but not the port at the offset above it: an error says so."""
    (port,) = free_ports(1, OFFSET)
    monkeypatch.setattr(ports, "CANDIDATES", range(port, port + 1))
    with socket.socket() as other:
        other.bind((HOST, port + OFFSET))
        assert free_ports(1) == (port,)
        with pytest.raises(UserError, match=r"not enough free ports.*: 0 of 1"):
            free_ports(1, OFFSET)
