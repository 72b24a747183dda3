"""DeepSpeed around one of our models: one process or many, CPU (gloo) or GPU (NCCL), ZeRO 0-3. Its only importer.

What a step is does not depend on how many processes take it. The global batch is cut into `micro_batches` numbered
pieces; rank r of W computes pieces r, r+W, ...; dropout in piece q is keyed by (seed, step, q), and the objective is

    sum over parts p (masked LM, next sentence, ...) of  the mean of p's loss over all its predictions in the global batch

so a piece with n of a part's N predictions weighs n/N, not 1/pieces: a mean of means would weigh a target in a
sparse piece more than one in a dense piece. Gradients are summed over pieces and ranks in float32.

A step has two halves, so that what it would do can be looked at before it is done: `backward` returns the figures,
the same on every rank, then `update` changes the weights or `drop` leaves everything as it was. A model that reads in
order is handed, with piece q, what it returned as `Losses.carried` for piece q of the last step that was not dropped.

DeepSpeed is asked for little, because much of what it does per step costs time here (4 layers x 256, one core, one
process, stage 0: 5.5 ms over a bare loop of 41, of which 3.5 are removed): no throughput timer (`steps_per_print`
None), no all-reduce of gradients by a process that is alone, clipping by torch's foreach kernels, which also gives the
norm (DeepSpeed has none at stage 0 in float32). bfloat16 is autocast over float32 weights, inside the module: measured
within 8 % of a pure bfloat16 model, and LayerNorm, softmax, losses and all optimizer state stay float32.
"""

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]

from training.checkpoint import check_fits
from training.engine_state import Carried, State, carried_by_name, carried_of, gathered
from training.optimizers.whole_tensors import WholeTensorOptimizer
from training.recompute import Recomputed
from training.weighted_parts import Batch, WeightedParts
from training.zero import STAGES, check_stage, make_whole

Precision = Literal["float32", "bfloat16"]
Predictions = Mapping[str, int]  # part -> predictions in a batch
PERSISTENT_VALUES = 100_000  # stage 3 leaves smaller parameters whole, as DeepSpeed does by itself


class Engine:
    """A model, its optimizer and the process group, as long as the `with` block lasts.

    `micro_batches` is their number in a global batch. `offload` keeps the optimizer's state and its work on the CPU,
    `recompute` trades time for memory (recompute.py). Raises ValueError when the processes cannot share the
    micro-batches evenly, and for stages, models and optimizers that do not go together.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batches: int = 1,
        clip_norm: float | None = None,
        precision: Precision = "float32",
        zero_stage: int = 0,
        offload: bool = False,
        recompute: bool = False,
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        deepspeed = _deepspeed(self.device)
        _join_group(self.device)
        self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if micro_batches % self.world_size:
            raise ValueError(
                f"{micro_batches} micro-batches over {self.world_size} processes: each must get the same number; "
                "use a number of processes that divides batch_size / micro_batch_size, or a smaller micro_batch_size"
            )
        check_stage(zero_stage, offload, isinstance(optimizer, WholeTensorOptimizer))
        if zero_stage == 3 and not all(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "zero_stage 3: some parameters are not trained, which it cannot keep; use stage 0, 1 or 2"
            )
        self.model, self.zero_stage, self._clip_norm = model, zero_stage, clip_norm
        trained = [p for p in model.parameters() if p.requires_grad]
        self._predictions: Callable[[Batch], Predictions] = model.predictions  # type: ignore[assignment]
        self._in_order = bool(getattr(model, "reads_in_order", False))
        self._carried: Carried = {}
        self._next_carried: Carried = {}
        self._norm = torch.zeros(())
        self.updates = 0
        self.share = range(self.rank, micro_batches, self.world_size)
        self._objective = WeightedParts(model, torch.bfloat16 if precision == "bfloat16" else None)
        accumulated = len(self.share)
        settings: dict[str, Any] = {
            "train_batch_size": micro_batches,
            "train_micro_batch_size_per_gpu": 1,  # DeepSpeed only multiplies; a piece is our unit
            "gradient_accumulation_steps": accumulated,
            "steps_per_print": None,
            "zero_optimization": {
                "stage": zero_stage,
                "stage3_param_persistence_threshold": PERSISTENT_VALUES,
                **({"offload_optimizer": {"device": "cpu", "pin_memory": False}} if offload else {}),
            },
            "zero_force_ds_cpu_optimizer": False,  # DeepSpeed's own would have to be compiled first
            "zero_allow_untested_optimizer": True,  # ours are tested: they know what ZeRO makes of their tensors
            "gradient_clipping": clip_norm or 0.0 if zero_stage else 0.0,  # left out means clipping at 1.0
        }
        self._recomputed = Recomputed(model) if recompute else None
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # ZeRO imports torch's inductor, which uses torch.jit
            self._engine: Any = deepspeed.initialize(
                model=self._objective, optimizer=optimizer, config=settings, dist_init_required=False
            )[0]
        self._stage = STAGES[zero_stage](self._engine, optimizer, trained)
        if isinstance(optimizer, WholeTensorOptimizer):
            optimizer.lay_out(self._stage.layouts())
        if not zero_stage and self.world_size == 1:
            self._engine.enable_backward_allreduce = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(whole=kind is None)

    def close(self, *, whole: bool = True) -> None:
        """Let go of the model; the process group stays, because DeepSpeed keeps it in its globals.

        After stage 3 the model is made `whole` again, which every rank must take part in.
        """
        weights = {}
        if self.zero_stage == 3 and whole:
            weights = {id(p): self._stage.weight(p).clone() for p in self.model.parameters()}
        self._engine.destroy()
        if self._recomputed is not None:
            self._recomputed.undo()
        if weights:
            make_whole(self.model, weights)
        if self.device.type == "cpu":
            torch.use_deterministic_algorithms(self._deterministic)

    def step(
        self,
        pieces: Sequence[Batch],
        *,
        learning_rate: float,
        noise: Callable[[int], int],
    ) -> dict[str, float]:
        """`backward` and `update`."""
        figures = self.backward(pieces, noise=noise)
        self.update(learning_rate)
        return figures

    def backward(self, pieces: Sequence[Batch], *, noise: Callable[[int], int]) -> dict[str, float]:
        """Gradients of this rank's `pieces` (those numbered `share`); the same figures on every rank.

        `noise` seeds a piece's dropout from its number. Every call is followed by one `update` or `drop`.
        Figures: loss, tokens, <part>, <part>_accuracy, gradient_norm.
        """
        own = [self._predictions(piece) for piece in pieces]
        totals = self._totals(own)
        self._objective.train()
        figures = {"tokens": torch.tensor(sum(piece.num_tokens for piece in pieces), device=self.device)}
        for number, piece, count in zip(self.share, pieces, own, strict=True):
            torch.manual_seed(noise(number))
            shares = {part: count[part] / totals[part] if totals[part] else 0.0 for part in totals}
            objective = self._engine(self._placed(number, piece), shares, float(self.world_size))
            # A new tensor: for the forward's own output DeepSpeed 0.19.8 divides by the number of pieces all the same.
            self._engine.backward(objective * 1.0, scale_wrt_gas=False)
            losses = self._objective.losses
            if self._in_order:
                self._next_carried[number] = tuple(tensor.detach().clone() for tensor in losses.carried)
            for part in totals:
                value = losses.parts[part].detach() * shares[part]
                correct = losses.counts[f"{part}_correct"] / max(1, totals[part])
                for name, term in ((part, value), (f"{part}_accuracy", correct)):
                    figures[name] = figures[name] + term if name in figures else term
            if number != self.share[-1]:
                self._engine.step()  # which only counts the pieces
        self._norm = self._stage.norm()
        return self._figures(figures, list(totals))

    def update(self, learning_rate: float) -> None:
        """Let the gradients of `backward` change the weights."""
        if self._clip_norm is not None:
            self._stage.clip(self._clip_norm, self._norm)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        self.updates += 1
        self._carried, self._next_carried = self._next_carried, {}

    def drop(self) -> None:
        """Forget the gradients of `backward`: weights, moments and what is carried stay as they are."""
        self._stage.drop()
        self._next_carried = {}

    def forget_carried(self) -> None:
        """The next step's rows do not continue those of the last."""
        self._carried = {}

    def _placed(self, number: int, piece: Batch) -> Batch:
        """The piece on the device, with what was carried to it."""
        if self._in_order:
            piece = dataclasses.replace(piece, carried=self._carried.get(number, ()))  # type: ignore[type-var]
        return piece.to(self.device)

    def _totals(self, own: Sequence[Predictions]) -> dict[str, int]:
        """Predictions of each part in the global batch."""
        totals = {part: sum(count[part] for count in own) for part in own[0]}
        if self.world_size == 1:
            return totals
        counts = torch.tensor(list(totals.values()), dtype=torch.int64, device=self.device)
        torch.distributed.all_reduce(counts)
        return dict(zip(totals, counts.tolist(), strict=True))

    def _figures(self, local: Mapping[str, Tensor], parts: list[str]) -> dict[str, float]:
        """Sum over ranks and fetch everything in one transfer."""
        values = torch.stack([value.to(torch.float64) for value in local.values()])
        if self.world_size > 1:
            torch.distributed.all_reduce(values)
        fetched = torch.cat([values, self._norm.to(values).reshape(1)]).tolist()
        figures = dict(zip(local, fetched[:-1], strict=True))
        return {"loss": sum(figures[part] for part in parts), **figures, "gradient_norm": fetched[-1]}

    def state(self) -> State | None:
        """Everything that the next step depends on, as copies, on rank 0; None on the others.

        Whole tensors, whatever the stage and the number of processes: any of them can go on from what any other wrote.
        Every rank must call it. Before the first update there are no moments.
        """
        first = self.rank == 0
        weights: dict[str, Tensor] = {}
        moments: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            weight, found = (
                self._stage.weight(parameter),
                self._stage.moments(parameter),
            )  # from all processes
            if first:
                weights[name] = weight.detach().to("cpu", copy=True)
                moments |= {
                    f"{name}/{key}": value.detach().to("cpu", copy=True) for key, value in found.items()
                }
        carried = gathered(carried_by_name(self._carried), self.rank, self.world_size, self.device)
        if not first:
            return None
        return State(weights=weights, moments=moments, carried=carried, updates=self.updates)

    def restore(self, state: State) -> None:
        """Continue from what `state` returned. Raises ValueError naming the first tensor that does not fit the model."""
        check_fits(self.model, state.weights)
        keys = sorted({name.rpartition("/")[2] for name in state.moments})
        with torch.no_grad():
            self._stage.begin(keys, state.updates)
            for name, parameter in self.model.named_parameters():
                own = {k: state.moments[f"{name}/{k}"] for k in keys if f"{name}/{k}" in state.moments}
                self._stage.fill(parameter, state.weights[name], own)
        self._carried = carried_of(state.carried, self.share, self.device)
        self.updates = state.updates

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.int64, device=self.device)
        torch.distributed.broadcast(tensor, src=0)
        return int(tensor)


def noise_key(seed: int, step: int, piece: int) -> int:
    """The seed of dropout in one piece of one step: no generator has a state that would have to be saved."""
    key = hashlib.blake2b(f"dropout/{seed}/{step}/{piece}".encode(), digest_size=8).digest()
    return int.from_bytes(key, "little") >> 1


def _deepspeed(device: torch.device) -> Any:
    """Import DeepSpeed quietly. On CPU its shared-memory operator is left out: it would be compiled for 100 s."""
    if device.type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("DS_IGNORE_CUDA_DETECTION", "1")
    import deepspeed
    import deepspeed.ops
    from deepspeed.utils import logger

    logger.setLevel("ERROR")
    # several processes and ZeRO 3 still go by the old names (0.19.8)
    warnings.filterwarnings(
        "ignore", ".*(all_gather_into|reduce_scatter)_tensor. is deprecated", FutureWarning
    )
    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _join_group(device: torch.device) -> None:
    """Use the process group that is there (Ray Train, torchrun), else make one of this process alone: no port, no network."""
    if not torch.distributed.is_initialized():
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")  # DeepSpeed reads them
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        backend = "nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
