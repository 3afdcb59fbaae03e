"""Apache Kafka that asks who somebody is, and what he may do: for tests of users, passwords and rights."""

from devstack.kafka import Kafka
from devstack.probes import probe_kafka

__all__ = ["SecureKafka"]


class SecureKafka(Kafka):
    """
    A single-node cluster whose clients log in by SCRAM-SHA-512, and may do nothing that no ACL allows.

    It begins without any user. Whoever comes by `admin_url`, on the loopback interface without a password, may do all.
    """

    port_names = ("client", "controller", "admin")

    @property
    def admin_url(self) -> str:
        """The bootstrap servers of the administrator."""
        return self.address("admin")

    @property
    def environment(self) -> dict[str, str]:
        """The bootstrap servers and how to log in; name and password are yours to add."""
        return {
            self.url_variable: self.url,
            "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "KAFKA_SASL_MECHANISMS": "SCRAM-SHA-512",
        }

    def listeners(self, controller: str) -> dict[str, str]:
        """Return the settings by which clients, the administrator and the controller's peers get in."""
        login = "listener.name.clients"
        return {
            "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,ADMIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"CLIENTS://{self.url},ADMIN://{self.admin_url},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENTS://{self.url},ADMIN://{self.admin_url}",
            "inter.broker.listener.name": "ADMIN",
            f"{login}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            f"{login}.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
        }

    def probe(self) -> None:
        """Ask the server once whether it is ready; raises NotReadyError."""
        probe_kafka(self.admin_url)
