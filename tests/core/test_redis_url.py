"""The addresses of Redis, as ``--bus`` takes them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsticky.config import Config
from txsticky.core.redis_url import RedisAddress, parse_bus
from txsticky.errors import ConfigError


class RedisAddressTests(SynchronousTestCase):
    """What `--bus` takes."""

    def test_addresses(self) -> None:
        """The URLs of redis-cli and redis-py are understood."""
        table = {
            "redis://cache": RedisAddress(host="cache"),
            "redis://": RedisAddress(host="localhost"),
            "redis://cache:7000/5": RedisAddress(host="cache", port=7000, db=5),
            "redis://[::1]:7000/": RedisAddress(host="::1", port=7000),
            "redis://:se%2Fcret@cache": RedisAddress(host="cache", password="se/cret"),
            "redis://:@cache": RedisAddress(host="cache"),
            "redis://me:pw@cache/1": RedisAddress(host="cache", db=1, username="me", password="pw"),
            "rediss://cache": RedisAddress(host="cache", secure=True),
            "redis://cache?db=3": RedisAddress(host="cache", db=3),
            "redis://cache/1?db=3&db=4": RedisAddress(host="cache", db=3),
            "unix:///run/redis.sock": RedisAddress(path="/run/redis.sock"),
            "unix:///run/redis.sock?db=2": RedisAddress(path="/run/redis.sock", db=2),
            "redis-stream://cache/5": RedisAddress(host="cache", db=5, stream=10_000),
            "rediss-stream://cache?length=7": RedisAddress(host="cache", secure=True, stream=7),
            "redis://cache?length=many": RedisAddress(host="cache"),
            "redis-stream://cache?length=7&length=8": RedisAddress(host="cache", stream=7),
            "unix-stream:///r.sock?db=2": RedisAddress(path="/r.sock", db=2, stream=10_000),
        }
        self.assertEqual({text: parse_bus(text) for text in table}, table)
        self.assertIsNone(parse_bus("local"))

    def test_nonsense(self) -> None:
        """Anything else is refused in a sentence that names the option and says what to write."""
        for text in (
            "",
            "redis",
            "http://cache",
            "redis://cache:port",
            "redis://cache:99999",
            "redis://cache/zero",
            "redis://cache/-1",
            "unix:",
            "redis://[::1",
            "redis-streams://cache",
            "redis-stream://cache?length=0",
            "redis-stream://cache?length=many",
        ):
            error = self.assertRaises(ConfigError, Config, bus=text)
            self.assertIn("--bus", str(error))
            self.assertIn("redis://", str(error))

    def test_numbers(self) -> None:
        """A number is of the digits 0 to 9, and the sentence says which one is wrong."""
        for number in ("zero", "-1", "3.5", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}"):
            for text, what in (
                (f"redis://cache/{number}", "no number of a database; write local, redis://"),
                (f"redis-stream://cache?length={number}", "no number of entries; write local"),
            ):
                self.assertIn(what, str(self.assertRaises(ValueError, parse_bus, text)))

    def test_no_password_in_the_log(self) -> None:
        """An address as text tells no password."""
        for text, shown in {
            "redis://me:secret@cache/1": "cache:6379",
            "redis://:secret@[::1]:7": "[::1]:7",
            "unix:///run/redis.sock": "/run/redis.sock",
        }.items():
            address = parse_bus(text)
            self.assertEqual(str(address), shown)
            self.assertNotIn("secret", repr(address))
