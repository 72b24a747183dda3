"""What share of the tokens is hidden: one for all passes, or another in every pass.

15 % is BERT's; large models learn as well or better from 40 % (Wettig et al. 2023, "Should you mask 15 % in
masked language modeling?"), and a share that falls from 30 to 15 % in training is better than one that stays
(Ankner et al. 2023, "Dynamic masking rate schedules for MLM pretraining").
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LinearShare:
    """From `first` in pass 0 in equal steps to `last` in pass `passes` - 1, and so in later passes."""

    first: float = 0.3
    last: float = 0.15
    passes: int = 10

    def __post_init__(self) -> None:
        check_share(self.first, "LinearShare.first")
        check_share(self.last, "LinearShare.last")
        if self.passes < 2:
            raise ValueError(
                f"LinearShare.passes is {self.passes}; give at least 2, or one share as a number"
            )

    def at(self, pass_number: int) -> float:
        """The share of one pass."""
        done = min(pass_number / (self.passes - 1), 1.0)
        return self.first * (1.0 - done) + self.last * done


@dataclass(frozen=True, kw_only=True)
class SharePerPass:
    """Share number p in pass p; the last one in later passes."""

    shares: tuple[float, ...] = (0.15,)

    def __post_init__(self) -> None:
        if not self.shares:
            raise ValueError("SharePerPass.shares is empty; give the share of each pass, e.g. [0.4, 0.15]")
        for number, share in enumerate(self.shares):
            check_share(share, f"SharePerPass.shares[{number}]")

    def at(self, pass_number: int) -> float:
        """The share of one pass."""
        return self.shares[min(pass_number, len(self.shares) - 1)]


Share = float | LinearShare | SharePerPass


def share_at(share: Share, pass_number: int) -> float:
    """The share of one pass."""
    return share.at(pass_number) if isinstance(share, LinearShare | SharePerPass) else share


def check_share(share: Share, where: str) -> None:
    """Raises ValueError for a number that is no share; the schedules check their own."""
    if not isinstance(share, LinearShare | SharePerPass) and not 0.0 < share < 1.0:
        raise ValueError(f"{where} is {share}; it must lie between 0 and 1, e.g. 0.15")
