"""Pleura's schemes, through `crypto.schemes` as agent and coordinator use it: real plan, roster, keys and ballot.

What is timed on the server is reading and adding alone, in one thread: each part of every contribution into one buffer
and through the scheme's adder. Memory is that of the coordinator's own `add_up`, which also hashes every part, works
in two threads, and has each sum on the disk before it goes on; its time is measured beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

from benchmarks.harness import N_MAX, Job, System, Update, main, timed
from coordinator.aggregation import add_up
from coordinator.rounds.work import Work
from coordinator.store.blobs import Blobs, part_key, sum_key, sums_prefix
from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.epochs import deal
from crypto.identity import Identity
from crypto.layout import Layout, Tensor
from crypto.manifest import Answer, Ballot, BodyOpening, Manifest, Opening, ShareOpening, Vote
from crypto.parameters import SHARE_PRIME, N
from crypto.plan import Member, Plan, Roster
from crypto.schemes import Recipients, scheme
from crypto.schemes.opening import open_ballot, open_bodies
from crypto.schemes.shares import open_shares
from crypto.shamir import minimum_threshold
from models.pooled import count_fields

Part: TypeAlias = bytes | memoryview

STUDY, ROUND = UUID(int=77), UUID(int=78)
ANY_DIGEST = "ab" * 32
CLASSES, BINS = 4, 64
ANSWERS: dict[str, Callable[[bytes], Answer]] = {
    "lwe-ckks": Opening.decode,
    "lwe-shamir": ShareOpening.decode,
    "ckks": BodyOpening.decode,
}


@dataclass(frozen=True)
class Closed:
    """What the coordinator has of a round to add and open it, beside the bodies. It goes from process to process."""

    plan: Plan
    roster: Roster
    public: bytes
    ballot: Ballot

    def write(self, folder: Path, answers: Iterable[Answer]) -> None:
        folder.mkdir()
        for name, message in (("plan", self.plan), ("roster", self.roster), ("ballot", self.ballot)):
            (folder / name).write_bytes(message.encode())
        (folder / "public").write_bytes(self.public)
        for number, answer in enumerate(answers):
            (folder / f"answer-{number:04}").write_bytes(answer.encode())

    @classmethod
    def read(cls, folder: Path) -> Closed:
        return cls(
            Plan.decode((folder / "plan").read_bytes()),
            Roster.decode((folder / "roster").read_bytes()),
            (folder / "public").read_bytes(),
            Ballot.decode((folder / "ballot").read_bytes()),
        )


class Ours(System):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        tensors = tuple(Tensor(name, shape, "parameter") for name, shape in job.shapes)
        self.layout = Layout(tensors, count_fields(CLASSES, BINS))
        self.scheme = scheme(job.system)
        self.sites = [UUID(int=number + 1) for number in range(job.sites)]
        self.blobs = Blobs(job.folder / "blobs")

    # --- the sites' side

    def provision(self) -> None:
        self.identities = {site: Identity.generate() for site in self.sites}
        self.roster = Roster(study=STUDY, members=tuple(map(self._member, range(self.job.sites))))
        self.key_parts: dict[UUID, tuple[bytes, ...]] = {}
        self.secret: SecretContext | None = None
        self.public, epoch = b"", None
        if self.job.system != "lwe-shamir":
            dealt = deal(self.identities[self.sites[0]], self.sites[0], STUDY, 1, self.roster)
            self.secret, self.public, epoch = dealt.secret, dealt.public_context, dealt.record.message.digest
        self.plan = self._plan(epoch)
        self.parts = len(self.scheme.part_sizes(self.plan, self.layout))

    def sealing(self, site: int, update: Update) -> Callable[[], Iterator[Part]]:
        to = PublicContext.load(self.public) if self.public else Recipients(self.roster, self.sites[site])
        counts, samples = [7] * self.layout.counts_size, self.job.samples(site)

        def seal() -> Iterator[Part]:
            sealed = self.scheme.seal(self.plan, self.layout, update, samples, counts, to)
            yield from sealed
            self.key_parts[self.sites[site]] = sealed.key_parts
            yield from sealed.key_parts

        return seal

    def further_bytes(self, site: int) -> int:
        """Signed manifest, and the vote, which under `lwe-shamir` is the answer. Digests are of no consequence here."""
        me = self.sites[site]
        manifest = self._manifest(me, [ANY_DIGEST] * self.parts)
        vote: Vote | ShareOpening = Vote(ballot=ANY_DIGEST, site=me)
        if self.job.system == "lwe-shamir":
            vote = ShareOpening(ballot=ANY_DIGEST, site=me, share_sum=(SHARE_PRIME - 1,) * N)
        identity = self.identities[me]
        return len(identity.sign(manifest).encode()) + len(identity.sign(vote).encode())

    def store(self, site: int, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Key parts, which come last, stay with the sites here: the coordinator passes them on unread."""
        for number, piece in enumerate(pieces):
            if number < self.parts:
                self.blobs.put_bytes(part_key(ROUND, self.sites[site], "body", number), memoryview(piece))

    def answer(self) -> None:
        signed = []
        for number, site in enumerate(self.sites):
            digests = [sha256(path.read_bytes()) for path in self.bodies(number)]
            signed.append(self.identities[site].sign(self._manifest(site, digests)))
        ballot = Ballot(plan=self.plan.digest, manifests=tuple(signed))
        closed = Closed(self.plan, self.roster, self.public, ballot)
        closed.write(self.job.folder / "round", self._answers(ballot))

    def _answers(self, ballot: Ballot) -> list[Answer]:
        opener = self.sites[0]
        if self.secret is None:
            return [
                open_shares(self.plan, self.roster, ballot, self._shares(place), self.identities[site], site)
                for place, site in enumerate(self.sites[: self.plan.threshold])
            ]
        if self.job.system == "lwe-ckks":
            return [open_ballot(self.plan, ballot, self.key_parts, self.secret, opener)]
        sums = self._sums(self.plan, PublicContext.load(self.public))
        digests = []
        for number, part in enumerate(open_bodies(self.plan, self.layout, ballot, sums, self.secret)):
            self._opened(number).write_bytes(part)
            digests.append(sha256(part))
        return [BodyOpening(ballot=ballot.digest, site=opener, parts=tuple(digests))]

    def _shares(self, place: int) -> dict[UUID, bytes]:
        return {site: self.key_parts[site][place] for site in self.sites}

    def _manifest(self, site: UUID, parts: list[str]) -> Manifest:
        key_parts = tuple(map(sha256, self.key_parts[site]))
        return Manifest(plan=self.plan.digest, site=site, parts=tuple(parts), key_parts=key_parts)

    def _member(self, number: int) -> Member:
        public = self.identities[self.sites[number]].public
        return Member(
            site=self.sites[number],
            name=f"Hospital {number + 1}",
            index=number + 1,
            signing_key=public.signing_key.hex(),
            hpke_key=public.hpke_key.hex(),
        )

    def _plan(self, epoch: str | None) -> Plan:
        return Plan(
            study=STUDY,
            round=1,
            attempt=1,
            kind="training",
            base_model=ANY_DIGEST,
            layout=self.layout.digest,
            recipe=ANY_DIGEST,
            roster=self.roster.digest,
            epoch=epoch,
            scheme=self.job.system,  # type: ignore[arg-type]  # pydantic checks it
            release="open",
            weighting="samples",
            expected=tuple(self.sites),
            k_max=self.job.sites,
            n_max=N_MAX,
            bounds=(1.0,) * len(self.layout.tensors),
            threshold=None if epoch else minimum_threshold(self.job.sites),
            minimum_contributors=3,
            collect_until=1_900_000_000,
            vote_seconds=60,
            open_seconds=60,
        )

    # --- the server's side

    @cached_property
    def closed(self) -> Closed:
        """Read once, by the run that warms up: a coordinator keeps the contexts of its studies, too."""
        return Closed.read(self.job.folder / "round")

    @cached_property
    def added_under(self) -> PublicContext | None:
        return PublicContext.load(self.closed.public) if self.job.system == "ckks" else None

    def add(self) -> list[Part]:
        return list(self._sums(self.closed.plan, self.added_under))

    def open(self, total: Iterable[Part]) -> Update:
        closed = self.closed
        files = sorted((self.job.folder / "round").glob("answer-*"))
        answers = (
            ANSWERS[closed.plan.scheme](file.read_bytes()) for file in files
        )  # one by one, as the conductor does
        secret_sum = self.scheme.combine(closed.plan, closed.roster, answers)
        if secret_sum.opened:
            total = (self._opened(number).read_bytes() for number in range(len(secret_sum.opened)))
        revealed = self.scheme.reveal(closed.plan, self.layout, total, secret_sum.values, self.job.sites)
        if revealed.mean is None:
            raise RuntimeError("a training round opened to no mean")
        return revealed.mean

    def whole(self) -> Update:
        self._add_up()
        parts = len(self.scheme.part_sizes(self.closed.plan, self.layout))
        return self.open(self.blobs.read(sum_key(ROUND, number)) for number in range(parts))

    def further_times(self) -> dict[str, float]:
        """On the server: what the coordinator takes for a contribution to read, hash and add it and store the sum."""
        if not (self.job.folder / "round").exists():
            return {}
        self._add_up()
        return {"coordinator": timed(self._add_up)[0]["seconds"] / self.job.sites}

    def bodies(self, site: int) -> list[Path]:
        first = self._body_part(site, 0)
        return sorted(first.parent.iterdir(), key=lambda path: int(path.name.split("-")[1]))

    def _add_up(self) -> None:
        self.blobs.delete_prefix(sums_prefix(ROUND))
        work = Work(ROUND, self.closed.plan, self.closed.roster, self.layout, {}, self.closed.ballot)
        add_up(self.blobs, work, lambda: None, self.added_under)

    def _sums(self, plan: Plan, public: PublicContext | None) -> Iterator[Part]:
        sizes = self.scheme.part_sizes(plan, self.layout)
        buffer = memoryview(bytearray(max(sizes)))
        for number in range(len(sizes)):
            adder = self.scheme.adder(plan, self.layout, number, public)
            for site in range(self.job.sites):
                with self._body_part(site, number).open("rb", buffering=0) as file:
                    adder.add(buffer[: file.readinto(buffer)])
            yield adder.total()

    # --- both

    def _body_part(self, site: int, number: int) -> Path:
        return self.job.folder / "blobs" / part_key(ROUND, self.sites[site], "body", number)

    def _opened(self, number: int) -> Path:
        return self.job.folder / f"opened-{number:05}"


if __name__ == "__main__":
    main(Ours)
