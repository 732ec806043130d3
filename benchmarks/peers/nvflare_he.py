"""NVFLARE with homomorphic encryption, by its own classes: `HEBuilder`'s context with its defaults, the client's
`HEModelEncryptor` filter, FOBS as a cell message's payload, and the server's `HEInTimeAccumulateWeightedAggregator`.

Contributions are taken one after the other, which is the least memory that this aggregator can do with: submissions
that arrive together are decoded together. The mean comes back encrypted; the clients decrypt it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.dxo import DXO, DataKind, MetaKey  # type: ignore[import-not-found]
from nvflare.apis.event_type import EventType  # type: ignore[import-not-found]
from nvflare.apis.fl_constant import FLContextKey, ReservedKey  # type: ignore[import-not-found]
from nvflare.apis.fl_context import FLContext  # type: ignore[import-not-found]
from nvflare.app_common.app_constant import AppConstants  # type: ignore[import-not-found]
from nvflare.app_opt.he.intime_accumulate_model_aggregator import (  # type: ignore[import-not-found]
    HEInTimeAccumulateWeightedAggregator,
)
from nvflare.app_opt.he.model_decryptor import HEModelDecryptor  # type: ignore[import-not-found]
from nvflare.app_opt.he.model_encryptor import HEModelEncryptor  # type: ignore[import-not-found]
from nvflare.fuel.f3.cellnet.defs import Encoding, MessageHeaderKey  # type: ignore[import-not-found]
from nvflare.fuel.f3.cellnet.utils import (  # type: ignore[import-not-found]
    decode_payload,
    encode_payload,
    new_cell_message,
)
from nvflare.fuel.sec.security_content_service import SecurityContentService  # type: ignore[import-not-found]
from nvflare.lighter.impl.he import HEBuilder  # type: ignore[import-not-found]
from nvflare.private.fed.utils.fed_utils import nvflare_fobs_initialize  # type: ignore[import-not-found]

from benchmarks.harness import Buffer, Job, System, Update, main

ROUND = 0


class NvflareHe(System):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        logging.disable(logging.CRITICAL)
        nvflare_fobs_initialize()
        SecurityContentService.initialize(str(job.folder))
        self.context = FLContext()
        self.context.set_prop(FLContextKey.SECURE_MODE, False)  # the context's file is not signed here
        self.context.set_prop(AppConstants.CURRENT_ROUND, ROUND)
        self.context.set_peer_context(FLContext())

    def provision(self) -> None:
        builder = HEBuilder()
        builder.initialize(None, None)
        (self.job.folder / "client_context.tenseal").write_bytes(builder.get_serialized_context(is_client=True))
        self.encryptor = HEModelEncryptor()
        self.encryptor.handle_event(EventType.START_RUN, self.context)

    def sealing(self, site: int, update: Update) -> Callable[[], list[Buffer]]:
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: self.job.samples(site)}
        shareable = DXO(DataKind.WEIGHT_DIFF, data=dict(self.job.tensors(update)), meta=meta).to_shareable()
        shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, ROUND)
        return lambda: _encode(self.encryptor.process(shareable, self.context))

    def add(self) -> Any:
        aggregator = HEInTimeAccumulateWeightedAggregator()
        aggregator.handle_event(EventType.START_RUN, self.context)
        for site in range(self.job.sites):
            self._accept(aggregator, site)
        return aggregator

    def _accept(self, aggregator: Any, site: int) -> None:
        shareable = _decode(self.body(site).read_bytes())
        shareable.set_peer_props({ReservedKey.IDENTITY_NAME: f"site-{site}"})
        if not aggregator.accept(shareable, self.context):
            raise RuntimeError(f"NVFLARE did not accept the contribution of site {site}")

    def open(self, total: Any) -> list[Buffer]:
        return _encode(total.aggregate(self.context))

    def save(self, opened: list[Buffer]) -> None:
        with (self.job.folder / "mean").open("wb") as file:
            file.writelines(opened)

    def mean(self) -> NDArray[Any]:
        decryptor = HEModelDecryptor()
        decryptor.handle_event(EventType.START_RUN, self.context)
        shareable = decryptor.process(_decode((self.job.folder / "mean").read_bytes()), self.context)
        return np.concatenate([np.ravel(values) for values in shareable["DXO"]["data"].values()])


def _encode(shareable: Any) -> list[Buffer]:
    message = new_cell_message({}, shareable)
    encode_payload(message)
    payload: list[Buffer] = message.payload
    return payload


def _decode(data: bytes) -> Any:
    message = new_cell_message({MessageHeaderKey.PAYLOAD_ENCODING: Encoding.FOBS}, data)
    decode_payload(message)
    return message.payload


if __name__ == "__main__":
    main(NvflareHe)
