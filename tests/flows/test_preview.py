"""What an objective does to a text is shown as it is prepared for training."""

import pytest

from flows import cli
from flows.preview import objectives

TEXT = "The cat sat on the mat. It purred loudly.\n\nA dog ran away. Nobody saw it go."


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["preview", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(objectives()))
def test_every_objective_can_be_previewed(name, capsys):
    out = shown(capsys, name, TEXT, "--samples", "2")
    assert "instance" in out
    assert "cat" in out or "dog" in out


def test_a_hidden_word_is_shown_with_what_must_be_predicted(capsys):
    out = shown(capsys, "bert", TEXT, "--set", "masked_share=0.5", "--seed", "3")
    assert "[MASK]{" in out
    assert "are predicted" in out


def test_the_same_seed_shows_the_same_noise_and_another_seed_another(capsys):
    one, again, other = (shown(capsys, "bert", TEXT, "--seed", seed) for seed in "112")
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["brt", TEXT], "no objective 'brt'"),
        (["bert", " "], "the text is empty"),
        (["bert", TEXT, "--set", "maskd_share=0.5"], "masked_share"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, words, capsys):
    assert cli.main(["preview", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
