"""The one decision."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from txsticky.core.how import How
from txsticky.core.http.head import Head, parse_head
from txsticky.core.routing.address_hash import address_word, heaviest
from txsticky.core.routing.balance import balancer, rendezvous
from txsticky.core.routing.forwarded import Trusted
from txsticky.core.routing.keys import parse_chain
from txsticky.core.routing.pool import Pool
from txsticky.core.routing.router import NO_WORKER, Refusal, Route, Router
from txsticky.core.routing.table import Table
from txsticky.core.routing.tag import Signer

SIGNER = Signer(b"0123456789abcdef")


def head(target: bytes = b"/", *lines: bytes) -> Head:
    """The head of a GET."""
    fields = b"".join(line + b"\r\n" for line in lines)
    parsed = parse_head(b"GET %b HTTP/1.1\r\n%b\r\n" % (target, fields), 1 << 20)
    assert isinstance(parsed, Head), parsed
    return parsed


def pool_of(*states: str) -> Pool:
    """A pool whose worker 1, 2, ... is in these states."""
    pool = Pool()
    for id, state in enumerate(states, 1):
        pool.add(id, slot=id)
        if state in ("ready", "draining"):
            pool.set_ready(id)
        if state == "draining":
            pool.set_draining(id)
    return pool


class World:
    """Everything that a decision depends on."""

    def __init__(self, sticky: str = "sid", *states: str, trusted: str = "") -> None:
        self.router = Router(
            parse_chain(sticky), SIGNER, balancer("leastconn"), Trusted.parse(trusted)
        )
        self.pool = pool_of(*(states or ("ready",) * 4))
        self.table = Table(100, 60.0)

    def decide(
        self, target: bytes = b"/", *lines: bytes, peer: str = "192.0.2.1"
    ) -> Route | Refusal:
        """Where a GET goes."""
        return self.router.decide(head(target, *lines), peer, self.pool, self.table, 0.0, Random(1))

    def route(self, target: bytes = b"/", *lines: bytes, peer: str = "192.0.2.1") -> Route:
        """Where a GET goes that is not refused."""
        route = self.decide(target, *lines, peer=peer)
        assert isinstance(route, Route), route
        return route

    def by_key(self, key: bytes) -> int:
        """The worker that a key alone leads to."""
        return rendezvous(key, self.pool.candidates()).id

    def by_address(self, peer: str) -> int:
        """The worker that an address leads to."""
        word = address_word(peer.encode())
        assert word is not None
        return heaviest(word, [member.slot for member in self.pool.candidates()])


def tagged(worker: int, ident: str = "abc") -> bytes:
    """A tagged identifier."""
    return SIGNER.mint(worker, ident).encode()


class TagTests(SynchronousTestCase):
    """Requests that a tag routes (TAG)."""

    def test_tag(self) -> None:
        """A tagged key goes to its worker."""
        for worker in (1, 2, 3, 4):
            self.assertEqual(
                World().route(b"/?sid=" + tagged(worker)),
                Route(worker, How.TAG),
            )

    def test_another_machine(self) -> None:
        """Another machine's tag is an unknown key, whatever its worker; an own tag wins."""
        world = World("sid,insert:W")
        world.router.signer = Signer(b"0123456789abcdef", "a")
        foreign, own = (
            Signer(b"0123456789abcdef", name).mint(2, "x").encode() for name in ("b", "a")
        )
        for target, line in ((b"/?sid=" + foreign, b"X: y"), (b"/", b"Cookie: W=" + foreign)):
            self.assertEqual(world.route(target, line).how, How.MISS)
        route = world.route(b"/?sid=" + foreign, b"Cookie: W=" + own)
        self.assertEqual(route, Route(2, How.TAG))

    def test_same_name(self) -> None:
        """
        Another machine of the same name: with the same secret its tags are taken for own ones.

        The worker of that number gets them; without one they are unknown keys, and so they are
        where the secret is another.
        """
        world = World()
        world.router.signer = Signer(b"0123456789abcdef", "a")
        found = []
        for secret in (b"0123456789abcdef", b"fedcba9876543210"):
            twin = Signer(secret, "a")
            found += [world.route(b"/?sid=" + twin.mint(id, "x").encode()).how for id in (2, 99)]
        self.assertEqual(found, [How.TAG, How.MISS, How.MISS, How.MISS])

    def test_any_key(self) -> None:
        """A tag in a later key wins over an untagged earlier one."""
        route = World("sid,ip,cookie:W").route(b"/?sid=abc", b"Cookie: W=" + tagged(3))
        self.assertEqual((route.worker, route.how), (3, How.TAG))

    def test_first_of_two(self) -> None:
        """Of two tags the one in the earlier source wins."""
        world = World("cookie:W,sid")
        route = world.route(b"/?sid=" + tagged(1), b"Cookie: W=" + tagged(2))
        self.assertEqual(route.worker, 2)

    def test_draining(self) -> None:
        """A draining worker is still reached by its tags."""
        world = World("sid", "ready", "draining")
        self.assertEqual(world.route(b"/?sid=" + tagged(2)).how, How.TAG)

    def test_suspect(self) -> None:
        """A suspect is still reached by its tags."""
        world = World()
        world.pool.suspect(2, True)
        self.assertEqual(world.route(b"/?sid=" + tagged(2)).worker, 2)

    def test_unreachable(self) -> None:
        """A tag of a worker that is gone, or not ready yet, is a key that no worker has."""
        world = World("sid", "ready", "starting", "ready")
        world.pool.set_gone(3)
        for worker in (2, 3, 9):
            route = world.route(b"/?sid=" + tagged(worker))
            self.assertEqual((route.worker, route.how), (1, How.MISS))

    def test_second_tag_reachable(self) -> None:
        """The tag of a worker that is gone does not hide another tag."""
        world = World("sid,cookie:W")
        route = world.route(b"/?sid=" + tagged(9), b"Cookie: W=" + tagged(2))
        self.assertEqual((route.worker, route.how), (2, How.TAG))

    def test_forged(self) -> None:
        """A forged tag is a key that no worker has."""
        forged = b"abc.3." + tagged(2)[-10:]
        self.assertEqual(World().route(b"/?sid=" + forged).how, How.MISS)

    def test_over_the_table(self) -> None:
        """A tag wins over a binding of another key."""
        world = World("cookie:J,sid")
        world.table.bind(b"j1", 1, 0.0)
        route = world.route(b"/?sid=" + tagged(2), b"Cookie: J=j1")
        self.assertEqual((route.worker, route.how), (2, How.TAG))


class HitTests(SynchronousTestCase):
    """Requests that the table routes (HIT)."""

    def test_bound(self) -> None:
        """A bound key goes to its worker, a draining one included."""
        world = World("cookie:J", "ready", "ready", "draining")
        for worker in (1, 2, 3):
            world.table.bind(b"j1", worker, 0.0)
            self.assertEqual(world.route(b"/", b"Cookie: J=j1"), Route(worker, How.HIT))

    def test_any_key(self) -> None:
        """A binding of a later key wins over a hashed and over an unknown earlier one."""
        world = World("ip,sid,cookie:J")
        world.table.bind(b"j1", 3, 0.0)
        route = world.route(b"/?sid=abc", b"Cookie: J=j1")
        self.assertEqual(route, Route(3, How.HIT))

    def test_gone(self) -> None:
        """A binding to a worker that is gone is none."""
        world = World("cookie:J", "ready", "ready")
        world.table.bind(b"j1", 2, 0.0)
        world.pool.set_gone(2)
        self.assertEqual(world.route(b"/", b"Cookie: J=j1"), Route(1, How.MISS))

    def test_expired(self) -> None:
        """A binding that has expired is none."""
        world = World("cookie:J")
        world.table.bind(b"j1", 2, -60.0)
        self.assertEqual(world.route(b"/", b"Cookie: J=j1").how, How.MISS)


class BoundTests(SynchronousTestCase):
    """What the table says of a request, apart from all else."""

    def test_bound(self) -> None:
        """The first key that is bound names the worker, reachable or not."""
        world = World("ip,cookie:J", "ready", "draining")
        world.table.bind(b"j1", 2, 0.0)
        world.pool.set_gone(2)
        asked = head(b"/", b"Cookie: J=j1")
        self.assertEqual(world.router.bound(asked, "192.0.2.1", world.table, 1.0), 2)
        world.table.bind(b"192.0.2.1", 1, 0.0)
        self.assertEqual(world.router.bound(asked, "192.0.2.1", world.table, 1.0), 1)

    def test_unbound(self) -> None:
        """No worker is named where no key is bound, or no longer is."""
        world = World("cookie:J")
        world.table.bind(b"j1", 1, 0.0)
        for line, now in ((b"Cookie: J=j2", 1.0), (b"Cookie: J=j1", 61.0)):
            self.assertIsNone(world.router.bound(head(b"/", line), "192.0.2.1", world.table, now))


class HashTests(SynchronousTestCase):
    """Requests that a hashed key routes (HASH)."""

    def test_stable(self) -> None:
        """One address always goes to one worker, whatever the load; many go to all."""
        world = World("ip")
        workers = set()
        for number in range(40):
            peer = f"192.0.2.{number}"
            first, second = world.route(peer=peer), world.route(b"/x", peer=peer)
            self.assertEqual(first, second)
            self.assertEqual(first, Route(world.by_address(peer), How.HASH))
            world.pool.reserve(first.worker)
            workers.add(first.worker)
        self.assertEqual(workers, {1, 2, 3, 4})

    def test_over_an_unknown_key(self) -> None:
        """A hashed key wins over an earlier one that no worker has, so that new and old agree."""
        world = World("sid,ip")
        self.assertEqual(world.route(b"/?sid=abc"), world.route(b"/"))
        self.assertEqual(world.route(b"/").how, How.HASH)

    def test_only_ready(self) -> None:
        """Hashed keys go to ready workers only."""
        world = World("ip", "starting", "ready", "draining")
        routes = {world.route(peer=f"192.0.2.{number}").worker for number in range(20)}
        self.assertEqual(routes, {2})

    def test_forwarded(self) -> None:
        """A trusted proxy's clients are told apart by X-Forwarded-For."""
        world = World("ip", trusted="127.0.0.1")
        line = b"X-Forwarded-For: 192.0.2.7"
        client, other = world.by_address("192.0.2.7"), world.by_address("192.0.2.2")
        self.assertNotEqual(client, other)
        self.assertEqual(world.route(b"/", line, peer="127.0.0.1").worker, client)
        self.assertEqual(world.route(b"/", line, peer="192.0.2.2").worker, other)

    def test_addresses_as_in_the_kernel(self) -> None:
        """An address leads where the kernel's program leads it, wherever it stands in the chain."""
        for peer in ("192.0.2.7", "192.0.2.8", "2001:db8::7", "2001:db8::8", "::ffff:192.0.2.9"):
            for chain in ("ip", "hash:ip", "sid,ip"):
                world = World(chain)
                self.assertEqual(world.route(peer=peer).worker, world.by_address(peer))

    def test_no_address(self) -> None:
        """A peer whose name is no address goes to one worker all the same."""
        world = World("ip")
        routes = {world.route(peer=f"machine-{number}") for number in range(40)}
        self.assertEqual({route.worker for route in routes}, {1, 2, 3, 4})
        self.assertEqual(world.route(peer="machine-1"), world.route(peer="machine-1"))

    def test_hashed_parameter(self) -> None:
        """hash: makes any key lead to a worker by itself."""
        world = World("hash:query:room")
        routes = {world.route(b"/%d?room=7" % number).worker for number in range(10)}
        self.assertEqual(len(routes), 1)
        self.assertEqual(world.route(b"/?room=7").how, How.HASH)

    def test_address_in_a_parameter(self) -> None:
        """A hashed parameter goes where its text goes, even if it is an address."""
        world = World("hash:query:a")
        routes = [world.route(b"/?a=192.0.2.%d" % n).worker for n in range(20)]
        self.assertEqual(routes, [world.by_key(b"192.0.2.%d" % n) for n in range(20)])

    def test_without_head(self) -> None:
        """Where the head cannot be read the address still pins."""
        world = World("sid,ip")
        route = world.router.decide(None, "192.0.2.1", world.pool, world.table, 0.0, Random(1))
        self.assertEqual(route, world.route())

    def test_as_text(self) -> None:
        """In a cluster that version 0.1.0 began an address goes where its text goes."""
        world = World("ip")
        world.router.in_words = False
        routes = [world.route(peer=f"192.0.2.{n}") for n in range(20)]
        expected = [Route(world.by_key(b"192.0.2.%d" % n), How.HASH) for n in range(20)]
        self.assertEqual(routes, expected)


class MissTests(SynchronousTestCase):
    """Requests whose keys no worker has (MISS)."""

    def test_agree(self) -> None:
        """Requests with one unknown key agree on a worker, whatever the load; many spread."""
        world = World()
        workers = set()
        for number in range(40):
            routes = [world.route(b"/%d?sid=%d" % (x, number)) for x in range(2)]
            self.assertEqual(routes[0], routes[1])
            self.assertEqual(routes[0], Route(world.by_key(b"%d" % number), How.MISS))
            world.pool.reserve(routes[0].worker)
            workers.add(routes[0].worker)
        self.assertEqual(workers, {1, 2, 3, 4})

    def test_first_key(self) -> None:
        """Of several unknown keys the first decides."""
        world = World("cookie:J,sid")
        routes = {world.route(b"/?sid=%d" % sid, b"Cookie: J=j1") for sid in range(20)}
        self.assertEqual(routes, {Route(world.by_key(b"j1"), How.MISS)})


class StaleCookieTests(SynchronousTestCase):
    """An inserted cookie whose worker has gone, which all clients of a minute have."""

    COOKIE = b"Cookie: W=" + tagged(9)

    def test_spread(self) -> None:
        """Clients of a cookie whose worker has gone are spread, by addresses and programs."""
        world = World("insert:W")
        by_address = {
            world.route(b"/", self.COOKIE, peer=f"192.0.2.{number}").worker for number in range(40)
        }
        by_program = {
            world.route(b"/", self.COOKIE, b"User-Agent: %d" % number).worker
            for number in range(40)
        }
        self.assertEqual((by_address, by_program), ({1, 2, 3, 4}, {1, 2, 3, 4}))

    def test_agrees(self) -> None:
        """The requests of one client agree, through trusted proxies as well."""
        world = World("insert:W", trusted="192.0.2.0/24")
        routes = {
            world.route(b"/%d" % n, self.COOKIE, b"X-Forwarded-For: 198.51.100.1", peer=peer)
            for n, peer in enumerate(("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"))
        }
        self.assertEqual([route.how for route in routes], [How.MISS])

    def test_stable(self) -> None:
        """Each release hashes the same text, so that processes of two releases agree."""
        world = World("insert:W")
        for lines, program in (((), b""), ((b"User-Agent: curl/8",), b"curl/8")):
            for n in range(20):
                worker = world.route(b"/", self.COOKIE, *lines, peer=f"192.0.2.{n}").worker
                text = b"%b 192.0.2.%d %b" % (self.COOKIE.partition(b"=")[2], n, program)
                self.assertEqual(worker, world.by_key(text))


class NewTests(SynchronousTestCase):
    """Requests without a key (NEW)."""

    def test_spread(self) -> None:
        """What nothing pins goes where the balancer says: 200 at once are 50 each."""
        world = World()
        chosen: Counter[int] = Counter()
        for _ in range(200):
            route = world.route(b"/socket.io/?EIO=4&transport=polling")
            self.assertEqual(route.how, How.NEW)
            world.pool.reserve(route.worker)
            chosen[route.worker] += 1
        self.assertEqual(chosen, {1: 50, 2: 50, 3: 50, 4: 50})

    def test_none(self) -> None:
        """Without stickiness everything is new."""
        self.assertEqual(World("none").route(b"/?sid=" + tagged(2)).how, How.NEW)

    def test_decoys(self) -> None:
        """A tag where no source looks pins nothing."""
        for target, line in (
            (b"/?xsid=" + tagged(2), b"X: y"),
            (b"/", b"X: sid=" + tagged(2)),
            (b"/sid=" + tagged(2), b"Cookie: sid=" + tagged(2)),
        ):
            self.assertEqual(World().route(target, line).how, How.NEW)

    def test_unix_peer(self) -> None:
        """Clients of a UNIX socket have no address; ip spreads them."""
        self.assertEqual(World("ip").route(peer="").how, How.NEW)

    def test_without_head(self) -> None:
        """Where the head cannot be read and no address counts the balancer chooses."""
        world = World()
        route = world.router.decide(None, "192.0.2.1", world.pool, world.table, 0.0, Random(1))
        assert isinstance(route, Route)
        self.assertEqual(route.how, How.NEW)


class RefusalTests(SynchronousTestCase):
    """Requests that no worker can serve."""

    def test_none_ready(self) -> None:
        """Without a ready worker everything that no reachable worker holds is refused with 503."""
        for states in ((), ("starting",), ("draining", "starting")):
            world = World("sid,hash:cookie:H")
            world.pool = pool_of(*states)
            for target in (b"/", b"/?sid=abc", b"/?sid=" + tagged(2)):
                self.assertIs(world.decide(target), NO_WORKER)
            self.assertIs(world.decide(b"/", b"Cookie: H=h"), NO_WORKER)

    def test_draining_alone(self) -> None:
        """A draining worker that is alone still gets what is its own."""
        world = World("sid", "draining")
        world.table.bind(b"bound", 1, 0.0)
        self.assertEqual(world.route(b"/?sid=" + tagged(1)).how, How.TAG)
        self.assertEqual(world.route(b"/?sid=bound").how, How.HIT)
        self.assertIs(world.decide(b"/"), NO_WORKER)


class NeedsHeadTests(SynchronousTestCase):
    """Whether the head has to be read first."""

    def test_needs_head(self) -> None:
        """The head is needed for a key in it, and for an address that a proxy may name in it."""
        cases = {
            ("sid", ""): True,
            ("ip", ""): False,
            ("ip", "127.0.0.1"): True,
            ("none", "127.0.0.1"): False,
        }
        for (sticky, trusted), needed in cases.items():
            self.assertEqual(World(sticky, trusted=trusted).router.needs_head, needed)


SOURCES = ("sid", "query:q", "cookie:W", "insert:V", "header:X", "hash:cookie:H", "ip")
CARRIERS = {
    "sid": lambda value: (b"sid=" + value, b"X-Other: y"),
    "query:q": lambda value: (b"q=" + value, b"X-Other: y"),
    "cookie:W": lambda value: (b"", b"Cookie: W=" + value),
    "insert:V": lambda value: (b"", b'Cookie: a=b; V="%b"' % value),
    "header:X": lambda value: (b"", b"X: " + value),
    "hash:cookie:H": lambda value: (b"", b"Cookie: H=" + value),
}
chains = st.lists(st.sampled_from(SOURCES), min_size=1, max_size=7, unique=True)
states = st.lists(st.sampled_from(["starting", "ready", "draining"]), min_size=1, max_size=5)
targets = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40).map(str.encode)
noise = st.lists(
    st.tuples(
        st.sampled_from([b"q=%b", b"W=%b", b"H=%b"]),
        st.sampled_from([b"x", b"bound", tagged(99), b"abc.1.AAAAAAAAAA", b"%zz", b'"']),
    ).map(lambda pair: pair[0] % pair[1]),
    max_size=4,
)


class PropertyTests(SynchronousTestCase):
    """What holds for every request."""

    @given(chains, states, noise, st.data())
    @settings(deadline=None, max_examples=200)
    def test_a_valid_tag_wins(
        self, chain: list[str], states: list[str], noise: list[bytes], data: st.DataObject
    ) -> None:
        """A valid tag for a reachable worker always wins, whatever else the request has."""
        reachable = [id for id, state in enumerate(states, 1) if state != "starting"]
        carriers = [source for source in chain if source in CARRIERS]
        assume(reachable and carriers)
        worker = data.draw(st.sampled_from(reachable))
        query, line = CARRIERS[data.draw(st.sampled_from(carriers))](tagged(worker))
        world = World(",".join(chain), *states)
        world.table.bind(b"bound", reachable[0], 0.0)
        target = b"/?" + b"&".join([query, *noise])
        route = world.route(target, line, b"Cookie: " + b"; ".join(noise))
        self.assertEqual((route.worker, route.how), (worker, How.TAG))

    @given(
        chains,
        states,
        targets,
        st.lists(
            st.tuples(
                st.sampled_from([b"Cookie", b"X", b"X-Forwarded-For"]), st.binary(max_size=30)
            ),
            max_size=4,
        ),
    )
    @settings(deadline=None, max_examples=200)
    def test_anything(
        self, chain: list[str], states: list[str], target: bytes, lines: list[tuple[bytes, bytes]]
    ) -> None:
        """Any request is routed to a worker that may have it, or refused; the same each time."""
        world = World(",".join(chain), *states, trusted="*")
        clean = [b"%b: %b" % (name, value.translate(None, b"\r\n\0")) for name, value in lines]
        decision = world.decide(b"/?" + target, *clean)
        if isinstance(decision, Refusal):
            self.assertEqual(world.pool.candidates(), ())
        else:
            self.assertTrue(world.pool.reachable(decision.worker))
            again = World(",".join(chain), *states, trusted="*")
            self.assertEqual(again.decide(b"/?" + target, *clean), decision)

    @given(st.permutations(range(1, 6)), st.sampled_from(["sid", "ip", "none"]), st.integers(0, 9))
    @settings(deadline=None)
    def test_order_of_birth(self, order: list[int], sticky: str, number: int) -> None:
        """The order in which workers came does not matter."""
        world, other = World(sticky, *["ready"] * 5), World(sticky, *["ready"] * 5)
        other.pool = Pool()
        for id in order:
            other.pool.add(id, slot=id)
            other.pool.set_ready(id)
        target = b"/?sid=%d" % number
        self.assertEqual(world.route(target), other.route(target))
