import socket

from devstack.ports import HOST, free_port, is_free


def test_a_free_port_can_be_listened_on():
    port = free_port()
    with socket.create_server((HOST, port)) as server:
        assert server.getsockname()[1] == port


def test_a_port_with_a_listener_is_not_free():
    with socket.create_server((HOST, 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_ports_are_never_those_of_outgoing_connections():
    with socket.create_server((HOST, 0)) as server, socket.create_connection(server.getsockname()) as client:
        ephemeral = client.getsockname()[1]
    assert all(port < 32_768 <= ephemeral for port in (free_port() for _ in range(50)))


def test_taken_ports_are_left_out(monkeypatch):
    offers = iter([20_001, 20_002])

    class Choice:
        def randrange(self, *_):
            return next(offers)

    monkeypatch.setattr("devstack.ports.random.SystemRandom", Choice)
    monkeypatch.setattr("devstack.ports.is_free", lambda _port: True)

    assert free_port(frozenset({20_001})) == 20_002
