"""Flower's SecAgg+ by its own code: `secaggplus_mod` on every client, `SecAggPlusWorkflow` on the server.

Between them stands a grid that calls the clients in this process, or reads what they sent from files. Each client
masks towards two neighbours, as in Flower's own example (three shares, two reconstruct); all else is the default.
A client's answer is serialised once, as `ConfigRecord.deflate` does it; on the way through Flower's object store it
is serialised again to be named by its SHA-256, which is left out here.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict  # type: ignore[import-not-found]
from flwr.app.message_type import MessageType  # type: ignore[import-not-found]
from flwr.client.mod import secaggplus_mod  # type: ignore[import-not-found]
from flwr.common import (  # type: ignore[import-not-found]
    Code,
    FitRes,
    Parameters,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.common.secure_aggregation.secaggplus_constants import (  # type: ignore[import-not-found]
    RECORD_KEY_CONFIGS,
    RECORD_KEY_STATE,
    Key,
    Stage,
)
from flwr.compat.common import recorddict_compat as compat  # type: ignore[import-not-found]
from flwr.server import LegacyContext, SimpleClientManager  # type: ignore[import-not-found]
from flwr.server.compat.grid_client_proxy import GridClientProxy  # type: ignore[import-not-found]
from flwr.server.strategy import FedAvg  # type: ignore[import-not-found]
from flwr.server.workflow import SecAggPlusWorkflow  # type: ignore[import-not-found]
from flwr.server.workflow.constant import (  # type: ignore[import-not-found]
    MAIN_CONFIGS_RECORD,
    MAIN_PARAMS_RECORD,
)
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState  # type: ignore[import-not-found]
from flwr.supercore.task_identity import TaskIdentity  # type: ignore[import-not-found]

from benchmarks.harness import Buffer, Job, System, Update, main

SHARES, THRESHOLD = 3, 2
NOTHING = Parameters([], "numpy.ndarray")


class Grid:
    """Sends nothing: every message is answered by `reply`, in order, and all answers are there together."""

    def __init__(self, reply: Callable[[Any], Any]) -> None:
        self.reply = reply

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        return [self.reply(message) for message in messages]


class FlowerSecAgg(System):
    """Node ids are 1 + the site's number."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        logging.disable(logging.CRITICAL)
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 10_000, 1
        self.workflow = SecAggPlusWorkflow(num_shares=SHARES, reconstruction_threshold=THRESHOLD)
        self.nodes = range(1, job.sites + 1)
        self.round = self._round()

    # --- the sites' side

    def provision(self) -> None:
        """Stages 0 and 1: keys, and shares of them. Then each client's state is kept, so that it can seal again."""
        self.clients = {node: Context(1, node, {}, RecordDict(), {}) for node in self.nodes}
        self.sent, self.key_seconds = dict.fromkeys(self.nodes, 0), 0.0
        self.state = WorkflowState()
        for stage in (self.workflow.setup_stage, self.workflow.share_keys_stage):
            if not stage(Grid(self._reply), self.round, self.state):
                raise RuntimeError(f"Flower stopped in {stage.__name__}")
        self.shared = {node: client.state.config_records[RECORD_KEY_STATE] for node, client in self.clients.items()}

    def sealing(self, site: int, update: Update) -> Callable[[], list[Buffer]]:
        """Stage 2, from the trained parameters as a client's application returns them."""
        node = site + 1
        arrays = [values for _, values in self.job.tensors(update)]
        trained = self._trained(site, ndarrays_to_parameters(arrays))
        asked = {
            Key.STAGE: Stage.COLLECT_MASKED_VECTORS,
            Key.CIPHERTEXT_LIST: self.state.forward_ciphertexts[node],
            Key.SOURCE_LIST: self.state.forward_srcs[node],
        }
        message = _message(node, asked)
        self.clients[node].state.config_records[RECORD_KEY_STATE] = self.shared[node]
        return lambda: [self._answer(message, lambda asked, _: Message(trained, reply_to=asked)).deflate()]

    def further_bytes(self, site: int) -> int:
        return self.sent[site + 1] + len(self._unmasking(site + 1))

    def further_times(self) -> dict[str, float]:
        return {"keys": self.key_seconds / self.job.sites} if hasattr(self, "sent") else {}

    def answer(self) -> None:
        for node in self.nodes:
            self._unmask_file(node).write_bytes(self._unmasking(node))
        neighbours = {node: sorted(others) for node, others in self.state.nid_to_neighbours.items()}
        (self.job.folder / "neighbours.json").write_text(json.dumps(neighbours))

    def _reply(self, message: Any) -> Any:
        """The workflow asks all clients in one record, which a client empties: each gets its own, as by the network."""
        node, asked = message.metadata.dst_node_id, dict(message.content.config_records[RECORD_KEY_CONFIGS])
        started = time.perf_counter()
        answer = self._answer(_message(node, asked), None)
        self.key_seconds += time.perf_counter() - started
        self.sent[node] += len(answer.deflate())
        return Message(RecordDict({RECORD_KEY_CONFIGS: answer}), reply_to=message)

    def _answer(self, message: Any, train: Any) -> Any:
        reply = secaggplus_mod(message, self.clients[message.metadata.dst_node_id], train)
        return reply.content.config_records[RECORD_KEY_CONFIGS]

    def _unmasking(self, node: int) -> bytes:
        """Stage 3 of a client, all others being there."""
        active = sorted(self.state.nid_to_neighbours[node])
        asked = {Key.STAGE: Stage.UNMASK, Key.ACTIVE_NODE_ID_LIST: active, Key.DEAD_NODE_ID_LIST: []}
        answer: bytes = self._answer(_message(node, asked), None).deflate()
        return answer

    # --- the server's side

    def add(self) -> Any:
        """Stage 2."""
        state = self._after_keys()
        if not self.workflow.collect_masked_vectors_stage(Grid(self._read), self.round, state):
            raise RuntimeError("Flower stopped in collect_masked_vectors_stage")
        return state

    def open(self, total: Any) -> Any:
        """Stage 3, with FedAvg's bookkeeping at its end, as the workflow has it."""
        replies = Grid(lambda message: _stored(message, self._unmask_file(message.metadata.dst_node_id), RecordDict()))
        if not self.workflow.unmask_stage(replies, self.round, total):
            raise RuntimeError("Flower stopped in unmask_stage")
        return self.round.state.array_records[MAIN_PARAMS_RECORD]

    def save(self, opened: Any) -> None:
        arrays = parameters_to_ndarrays(compat.arrayrecord_to_parameters(opened, keep_input=True))
        np.save(self.job.folder / "mean.npy", np.concatenate([values.ravel() for values in arrays]))

    def _read(self, message: Any) -> Any:
        site = message.metadata.dst_node_id - 1
        return _stored(message, self.body(site), self._trained(site, NOTHING))

    def _after_keys(self) -> Any:
        """The workflow's state when it begins stage 2."""
        neighbours = json.loads((self.job.folder / "neighbours.json").read_text())
        nodes, workflow = set(self.nodes), self.workflow
        return WorkflowState(
            nid_to_proxies=self.round.client_manager.all_by_node,
            nid_to_fitins={node: RecordDict() for node in nodes},
            sampled_node_ids=set(nodes),
            active_node_ids=set(nodes),
            num_shares=SHARES,
            threshold=THRESHOLD,
            clipping_range=workflow.clipping_range,
            quantization_range=workflow.quantization_range,
            mod_range=workflow.modulus_range,
            max_weight=workflow.max_weight,
            nid_to_neighbours={int(node): set(others) for node, others in neighbours.items()},
            forward_srcs={node: [] for node in nodes},
            forward_ciphertexts={node: [] for node in nodes},
        )

    # --- both

    def _round(self) -> Any:
        manager = SimpleClientManager()
        manager.all_by_node = {node: GridClientProxy(node, None, 1) for node in self.nodes}
        for proxy in manager.all_by_node.values():
            manager.register(proxy)
        everyone = {"fraction_fit": 1.0, "min_fit_clients": self.job.sites, "min_available_clients": self.job.sites}
        records = RecordDict()
        records.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 2})
        records.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(NOTHING, keep_input=True)
        context = Context(1, 0, {}, records, {})
        return LegacyContext(context, strategy=FedAvg(**everyone), client_manager=manager)

    def _trained(self, site: int, parameters: Any) -> Any:
        result = FitRes(Status(Code.OK, ""), parameters, self.job.samples(site), {})
        return compat.fitres_to_recorddict(result, keep_input=True)

    def _unmask_file(self, node: int) -> Path:
        return self.job.folder / f"unmask-{node:04}"


def _message(node: int, asked: dict[str, Any]) -> Any:
    content = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(asked)})
    return Message(content, dst_node_id=node, message_type=MessageType.TRAIN)


def _stored(message: Any, path: Path, content: Any) -> Any:
    """The reply to a message, of which a file has what the client's part of SecAgg+ said."""
    content.config_records[RECORD_KEY_CONFIGS] = ConfigRecord.inflate(path.read_bytes())
    return Message(content, reply_to=message)


if __name__ == "__main__":
    main(FlowerSecAgg)
