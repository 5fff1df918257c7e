"""The recurrent baselines: all their ways of computing agree, and padding is never seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from dragoman_model.attention import masked_softmax
from dragoman_model.batching import Example, collate
from dragoman_model.checkpoint import CheckpointError, load_model
from dragoman_model.config import RecurrentConfig
from dragoman_model.distributed import World
from dragoman_model.families import build_model
from dragoman_model.loss import smoothed_cross_entropy
from dragoman_model.recurrent import RecurrentTranslator, translate_greedily
from dragoman_model.tasks import load_recipe, open_task
from dragoman_model.trainer import Trainer
from dragoman_model.transformer import Transformer
from tests.unit.model.small import write_recipe

RECIPES = Path(__file__).parents[3] / "model" / "recipes"

BOTH = pytest.mark.parametrize("architecture", ["gru", "gru-attention"])
SOURCE = torch.tensor([[4, 5, 6, 3, 0], [9, 8, 7, 6, 3], [4, 3, 0, 0, 0]])
LENGTHS = torch.tensor([4, 5, 2])
TARGET = torch.tensor([[2, 7, 8, 9], [2, 10, 11, 12], [2, 13, 14, 15]])


def recurrent(architecture: str, seed: int = 0, **changes: object) -> RecurrentTranslator:
    torch.manual_seed(seed)
    fields = {"vocabulary": 40, "d_model": 12, "d_encoder": 10, "d_decoder": 14, "d_attention": 6, "dropout": 0.0}
    config = RecurrentConfig.model_validate({"architecture": architecture, "max_length": 32, **fields, **changes})
    return RecurrentTranslator(config).eval()


def gru_cell(cell: torch.nn.GRUCell, x: Tensor, state: Tensor) -> Tensor:
    """One vector at a time, by the equations of Cho et al. 2014 as PyTorch orders them."""
    reset_x, update_x, new_x = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    reset_h, update_h, new_h = (cell.weight_hh @ state + cell.bias_hh).chunk(3)
    reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
    return (1 - update) * torch.tanh(new_x + reset * new_h) + update * state


def plain_decode(model: RecurrentTranslator, source: list[int], target: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The model once more, for one sentence without padding, one vector after the other."""
    scale = model.config.d_model**0.5
    embedded = [model.embedding.weight[i] * scale for i in source]
    there = model.forwards(torch.stack(embedded)[None])[0][0]
    back = model.backwards(torch.stack(embedded[::-1])[None])[0][0].flip(0)
    annotations = torch.cat([there, back], dim=-1)
    summary = torch.cat([there[-1], back[0]])
    state, outputs, looked = torch.tanh(model.start(summary)), [], []
    for token in target:
        context, read = summary, model.embedding.weight[token] * scale
        if model.similarity is not None:
            similarity = model.similarity
            scores = [similarity.energy(torch.tanh(similarity.query(state) + similarity.key(a))) for a in annotations]
            looked.append(torch.cat(scores).softmax(dim=0))
            context = torch.stack([w * a for w, a in zip(looked[-1], annotations, strict=True)]).sum(dim=0)
        state = gru_cell(model.cell, torch.cat([read, context]), state)
        outputs.append(torch.tanh(model.readout(torch.cat([state, context, read]))))
    return torch.stack(outputs), looked


@BOTH
@torch.no_grad()
def test_a_padded_batch_is_what_each_sentence_gives_one_vector_at_a_time(architecture: str) -> None:
    model = recurrent(architecture)
    states, weights = model.decode(TARGET, model.encode(SOURCE, LENGTHS))
    for row, length in enumerate(LENGTHS.tolist()):
        expected, looked = plain_decode(model, SOURCE[row, :length].tolist(), TARGET[row].tolist())
        torch.testing.assert_close(states[row], expected, atol=1e-5, rtol=1e-5)
        if weights is not None:
            torch.testing.assert_close(weights[row, :, :length], torch.stack(looked), atol=1e-5, rtol=1e-5)
    assert (weights is not None) == (architecture == "gru-attention")


@BOTH
@torch.no_grad()
def test_what_padding_holds_changes_nothing(architecture: str) -> None:
    model = recurrent(architecture)
    noisy = SOURCE.masked_fill(SOURCE == 0, 33)
    assert torch.equal(model(SOURCE, LENGTHS, TARGET), model(noisy, LENGTHS, TARGET))


@torch.no_grad()
def test_weights_sum_to_one_and_are_exactly_zero_on_padding() -> None:
    model = recurrent("gru-attention")
    weights = model.decode(TARGET, model.encode(SOURCE, LENGTHS))[1]
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4))
    assert torch.equal(weights[0, :, 4:], torch.zeros(4, 1))
    assert torch.equal(weights[2, :, 2:], torch.zeros(4, 3))


@BOTH
@torch.no_grad()
def test_a_later_target_does_not_change_an_earlier_state(architecture: str) -> None:
    model = recurrent(architecture)
    other = TARGET.clone()
    other[:, 2:] = 30
    first, second = model(SOURCE, LENGTHS, TARGET), model(SOURCE, LENGTHS, other)
    assert torch.equal(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2:], second[:, 2:])


@torch.no_grad()
def test_only_attention_sees_the_middle_of_the_source_past_the_summary() -> None:
    """Without attention, sources with one summary are one source; with it they are not."""
    for architecture, alike in (("gru", True), ("gru-attention", False)):
        model = recurrent(architecture)
        source = model.encode(SOURCE[1:2], None)
        changed = type(source)(
            source.states.flip(1), source.summary, None if source.keys is None else source.keys.flip(1) * 2, None
        )
        same = torch.equal(model.decode(TARGET[:1], source)[0], model.decode(TARGET[:1], changed)[0])
        assert same is alike


@BOTH
@torch.no_grad()
def test_greedy_decoding_takes_what_the_teacher_forced_replay_finds_likeliest(architecture: str) -> None:
    model = recurrent(architecture, seed=3)
    sources = [row[:length].tolist() for row, length in zip(SOURCE, LENGTHS.tolist(), strict=True)]
    translations = translate_greedily(model, sources, max_length=7)
    for source, ids in zip(sources, translations, strict=True):
        replay = torch.tensor([[model.config.bos_id, *ids]])
        log_probs = model.logits(model(torch.tensor([source]), None, replay)).log_softmax(dim=-1)[0]
        best = log_probs.argmax(dim=-1).tolist()
        assert best[: len(ids)] == ids
        assert len(ids) == 7 or best[len(ids)] == model.config.eos_id


@BOTH
@torch.no_grad()
def test_sentences_translate_alike_alone_and_together(architecture: str) -> None:
    model = recurrent(architecture, seed=4)
    sources = [[4, 5, 3], [6, 7, 8, 9, 3], [10, 3], [11, 12, 13, 3]]
    together = translate_greedily(model, sources, max_length=6)
    assert together == [translate_greedily(model, [source], max_length=6)[0] for source in sources]
    assert together == translate_greedily(model, sources, max_length=6, batch_rows=2)


@BOTH
def test_it_learns_a_toy_set_by_heart(architecture: str) -> None:
    """The source turned around: nothing that a constant answer could do."""
    model = recurrent(architecture, d_model=32, d_encoder=32, d_decoder=48, d_attention=24).train()
    generator = torch.Generator().manual_seed(5)
    texts = [torch.randint(4, 40, (4,), generator=generator).tolist() for _ in range(12)]
    examples = [Example([*text, 3], [*text[::-1], 3]) for text in texts]
    batch = collate(examples, pad_id=0, bos_id=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        states = model(batch.source, batch.source_lengths, batch.target_in).flatten(0, 1)
        loss, _ = smoothed_cross_entropy(states, model.embedding.weight, batch.target_out.flatten(), smoothing=0.0)
        optimizer.zero_grad()
        (loss / batch.tokens).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    assert translate_greedily(model, [e.source for e in examples], max_length=8) == [text[::-1] for text in texts]


def test_the_similarity_with_keys_made_before_is_the_similarity() -> None:
    similarity = recurrent("gru-attention").similarity
    assert similarity is not None
    queries, keys = torch.randn(2, 3, 14), torch.randn(2, 5, 20)
    torch.testing.assert_close(similarity.compare(queries, similarity.project_keys(keys)), similarity(queries, keys))
    assert masked_softmax(similarity(queries, keys)).shape == (2, 3, 5)


def test_a_faulty_config_names_every_fault() -> None:
    with pytest.raises(ValidationError) as caught:
        RecurrentConfig.model_validate({"architecture": "lstm", "vocabulary": 2, "num_heads": 4})
    assert {e["loc"][0] for e in caught.value.errors()} == {"architecture", "vocabulary", "num_heads"}


@BOTH
def test_a_recipe_trains_it_and_leaves_a_loadable_model(tmp_path: Path, architecture: str) -> None:
    path = write_recipe(tmp_path, optimizer="muon")
    text = path.read_text(encoding="utf-8")
    begin, end = text.index("[model]"), text.index("max_length")
    sizes = f'[model]\narchitecture = "{architecture}"\nd_model = 16\nd_encoder = 12\nd_decoder = 12\nd_attention = 8\n'
    path.write_text(text[:begin] + sizes + text[end:], encoding="utf-8")
    recipe = load_recipe(path)
    task = open_task(recipe, path.read_text(encoding="utf-8"), lambda line: None)
    folder = Trainer(task, tmp_path / "run", World(0, 1, torch.device("cpu"))).run(resume=False)
    trained = load_model(folder, RecurrentTranslator)
    assert trained.model.config.architecture == architecture
    assert trained.provenance.updates == 12
    assert trained.provenance.directions == [("en", "de"), ("de", "en")]
    with pytest.raises(CheckpointError, match="holds a RecurrentTranslator, and a Transformer is needed"):
        load_model(folder, Transformer)


def test_the_recipes_to_be_compared_differ_in_the_model_alone_and_hardly_in_size() -> None:
    recipes = [load_recipe(path) for path in sorted(RECIPES.glob("history-*.toml"))]
    assert len(recipes) == 3
    for recipe in recipes:
        assert (recipe.data, recipe.tokenizer, recipe.training) == (
            recipes[0].data,
            recipes[0].tokenizer,
            recipes[0].training,
        )
    sizes = [build_model(recipe.config(recipe.tokenizer.vocabulary)).parameter_count for recipe in recipes]
    assert max(sizes) / min(sizes) < 1.03
