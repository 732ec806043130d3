"""Plaintext float32, the floor that everything else is held against: weigh and send; read, add and divide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.harness import Buffer, System, Update, main


class Plain(System):
    def provision(self) -> None:
        pass

    def sealing(self, site: int, update: Update) -> Callable[[], list[Buffer]]:
        return lambda: [(update * np.float32(self.job.weight(site))).tobytes()]

    def add(self) -> Update:
        total, part = np.zeros(self.job.values, np.float32), np.empty(self.job.values, np.float32)
        for site in range(self.job.sites):
            with self.body(site).open("rb", buffering=0) as file:
                file.readinto(part.data)
            np.add(total, part, out=total)
        return total

    def open(self, total: Update) -> Update:
        return total / np.float32(sum(self.job.weight(site) for site in range(self.job.sites)))


if __name__ == "__main__":
    main(Plain)
