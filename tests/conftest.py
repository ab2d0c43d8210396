"""What several tests share."""

from tests.servers import bucket, emulator, postgresql

__all__ = ["bucket", "emulator", "postgresql"]
