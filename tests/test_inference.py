import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig
from resnet_space.data.images import open_image
from resnet_space.explain.attention import AttentionMaps, attention_maps
from resnet_space.explain.saliency import class_maps
from resnet_space.inference import Classifier, Prediction
from resnet_space.models import CBAM, create_model
from resnet_space.runs import WEIGHTS, Run

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
MODEL = ModelConfig("resnet20", CLASSES, options={"cbam": "stage"}, mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4))


def saved_run(folder: Path, config: ModelConfig = MODEL) -> Run:
    """A run with random weights, as lively as trained ones: gates and probabilities differ between images."""
    torch.manual_seed(0)
    model = config.build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.3)
            module.momentum = None  # the plain mean over the batches below
        if isinstance(module, CBAM):
            for parameter in module.parameters():
                # The spatial gate sums 98 inputs: with larger weights it would be all open or all closed.
                parameter.data.normal_(0, 0.05 if parameter.ndim == 4 else 0.3)
    model.fc.weight.data.normal_(0, 0.3)
    with torch.no_grad():
        model.train()(torchvisions(picture(99), config).repeat(8, 1, 1, 1) + torch.randn(8, 3, 1, 1))
    run = Run.create(folder, RunConfig(config))
    run.save_weights(model.state_dict())
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return saved_run(tmp_path_factory.mktemp("runs") / "a-run")


@pytest.fixture
def classifier(run: Run) -> Classifier:
    return Classifier(run)


def picture(seed: int = 0, width: int = 32, height: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def torchvisions(image: Image.Image, config: ModelConfig = MODEL) -> Tensor:
    steps = [
        v2.Resize(config.image_size, InterpolationMode.BICUBIC, antialias=True),
        v2.CenterCrop(config.image_size),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(config.mean, config.std),
    ]
    result: Tensor = v2.Compose(steps)(image)[None]
    return result


def expected_probabilities(run: Run, image: Image.Image) -> list[float]:
    """By a plain forward pass of a model that is built and loaded here."""
    config = run.config.model
    model = create_model(config.architecture, len(config.classes), cbam=config.options["cbam"]).eval()
    model.load_state_dict(load_file(run.path / WEIGHTS))
    with torch.no_grad():
        logits = model(torchvisions(image, config))[0].double()
    odds = (logits - logits.max()).exp()
    probabilities: list[float] = (odds / odds.sum()).tolist()
    return probabilities


def assert_same_maps(maps: AttentionMaps, expected: AttentionMaps) -> None:
    assert list(maps.channel) == list(expected.channel)
    assert list(maps.spatial) == list(expected.spatial)
    for name in expected.channel:
        torch.testing.assert_close(maps.channel[name], expected.channel[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps.spatial[name], expected.spatial[name], rtol=1e-4, atol=1e-5)


# The prediction


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_top_five_are_those_of_a_plain_forward_pass(run: Run, classifier: Classifier, seed: int) -> None:
    expected = expected_probabilities(run, picture(seed))
    assert 1e-3 < max(expected) < 0.999  # neither all alike nor all but one at zero
    order = sorted(range(len(CLASSES)), key=lambda i: -expected[i])[:5]
    prediction = classifier.predict(picture(seed))
    assert prediction.classes == [CLASSES[i] for i in order]
    assert prediction.probabilities == pytest.approx([expected[i] for i in order], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 64), (64, 128)])
def test_a_larger_image_is_prepared_as_torchvision_does(classifier: Classifier, width: int, height: int) -> None:
    waves = np.sin(np.linspace(0, 3, width * height * 3)).reshape(height, width, 3)
    image = Image.fromarray(np.uint8(127.5 + 120 * waves))
    prepared = classifier.prepare([image])
    assert prepared.dtype == torch.float32
    assert prepared.shape == (1, 3, 32, 32)
    one_level = 1 / 255 / torch.tensor(MODEL.std)  # Pillow rounds to whole levels, once or twice
    difference = (prepared - torchvisions(image)).abs().amax(dim=(0, 2, 3))
    assert (difference <= 1.01 * one_level).all()


def test_several_images_are_prepared_as_each_alone(classifier: Classifier) -> None:
    pictures = [picture(0), picture(1, 50, 40), picture(2, 7, 90)]
    together = classifier.prepare(pictures)
    assert torch.equal(together, torch.cat([classifier.prepare([image]) for image in pictures]))


@pytest.mark.parametrize(("top", "count"), [(1, 1), (3, 3), (7, 7), (100, 7)])
def test_as_many_classes_as_asked_for_but_no_more_than_there_are(classifier: Classifier, top: int, count: int) -> None:
    everything = classifier.predict(picture(), top=7)
    prediction = classifier.predict(picture(), top=top)
    assert prediction.classes == everything.classes[:count]
    assert prediction.probabilities == pytest.approx(everything.probabilities[:count])
    assert prediction.probabilities == sorted(prediction.probabilities, reverse=True)
    assert all(0 <= probability <= 1 for probability in prediction.probabilities)


def test_fewer_than_five_classes_are_all_given_and_sum_to_one(tmp_path: Path) -> None:
    few = Classifier(saved_run(tmp_path / "few", ModelConfig("resnet20", ("yes", "no", "maybe"))))
    prediction = few.predict(picture())
    assert sorted(prediction.classes) == ["maybe", "no", "yes"]
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-6)
    assert prediction.attention == AttentionMaps({}, {}, {})  # and a model without CBAM has no maps


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^untrained has no model\.safetensors yet"):
        Classifier(Run.create(tmp_path / "untrained", RunConfig(MODEL)))


def test_the_words_on_preprocessing_have_its_numbers(tmp_path: Path) -> None:
    config = ModelConfig("resnet20", ("a", "b"), image_size=48, mean=(0.125, 0.25, 0.5), std=(0.2, 0.3, 0.4))
    words = Classifier(saved_run(tmp_path / "a-run", config)).preprocessing
    for number in ("48 px", "48 x 48", "0.125, 0.25, 0.5", "0.2, 0.3, 0.4"):
        assert number in words


# The attention of the same pass


def test_prediction_and_attention_come_from_one_forward_pass_that_leaves_no_hooks(classifier: Classifier) -> None:
    sizes: list[int] = []
    handle = classifier.model.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output)))
    prediction = classifier.predict(picture())
    handle.remove()
    assert sizes == [1]
    assert {name: tuple(gates.shape) for name, gates in prediction.attention.spatial.items()} == {
        "cbam1": (1, 32, 32),
        "cbam2": (1, 16, 16),
        "cbam3": (1, 8, 8),
    }
    assert sum(len(module._forward_hooks) for module in classifier.model.modules()) == 0


def test_the_maps_are_those_of_the_image(run: Run, classifier: Classifier) -> None:
    first, second = (classifier.predict(picture(seed)).attention for seed in (0, 1))
    assert_same_maps(first, attention_maps(run.load_model(), torchvisions(picture(0))))
    assert (first.spatial["cbam3"] - second.spatial["cbam3"]).abs().max() > 0.01
    assert (first.channel["cbam3"] - second.channel["cbam3"]).abs().max() > 0.01


def test_threads_that_predict_at_once_do_not_mix_their_maps(classifier: Classifier) -> None:
    seeds = [0, 1]
    alone = [classifier.predict(picture(seed)) for seed in seeds]
    # In the middle of each pass, wait long enough for the other thread to come in between.
    classifier.model.layer2.register_forward_pre_hook(lambda _module, _inputs: time.sleep(0.02))
    results: dict[int, list[Prediction]] = {seed: [] for seed in seeds}
    together = threading.Barrier(len(seeds))

    def predict_again_and_again(seed: int) -> None:
        for _ in range(4):
            together.wait(timeout=60)
            results[seed].append(classifier.predict(picture(seed)))

    threads = [threading.Thread(target=predict_again_and_again, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    for seed, expected in zip(seeds, alone, strict=True):
        assert len(results[seed]) == 4
        for prediction in results[seed]:
            assert prediction.classes == expected.classes
            assert prediction.probabilities == pytest.approx(expected.probabilities, rel=1e-4)
            assert_same_maps(prediction.attention, expected.attention)


# What is kept of the same pass on request


def test_the_features_are_those_that_the_next_layer_sees(classifier: Classifier) -> None:
    assert classifier.predict(picture()).features == {}
    features = classifier.predict(picture(), features=True).features
    assert set(features) == {"cbam1", "cbam2", "cbam3", "layer1", "layer2", "layer3"}
    x = classifier.prepare([picture()])
    with torch.no_grad():
        x = classifier.model.relu(classifier.model.bn1(classifier.model.conv1(x)))
        for stage, cbam in classifier.model.stages().items():
            x = classifier.model.get_submodule(cbam)(classifier.model.get_submodule(stage)(x))
            for name in (stage, cbam):
                torch.testing.assert_close(features[name], x[0], rtol=1e-4, atol=1e-5)


def test_maps_of_any_class_come_from_the_predictions_own_pass(classifier: Classifier) -> None:
    prediction = classifier.predict(picture(), features=True)
    passes: list[int] = []
    handle = classifier.model.register_forward_hook(lambda _module, _inputs, output: passes.append(len(output)))
    found = classifier.class_maps(prediction, prediction.indices[:2])
    handle.remove()
    assert passes == []
    expected = class_maps(classifier.model, classifier.prepare([picture()]), prediction.indices[:2])
    assert found.raw == pytest.approx(expected.raw, rel=1e-4, abs=1e-6)
    assert found.maps.shape == (2, 32, 32)
    with pytest.raises(ValueError, match="no features"):
        classifier.class_maps(classifier.predict(picture()), [0])
    with pytest.raises(ValueError, match="stage is 'layer7'"):
        classifier.class_maps(prediction, [0], stage="layer7")


def test_evidence_is_that_of_the_calibrated_probabilities(run: Run) -> None:
    hot = replace(run, config=replace(run.config, model=replace(run.config.model, temperature=3.0)))
    classifier = Classifier(hot)
    prediction = classifier.predict(picture(), features=True)
    expected = torch.tensor(expected_probabilities(run, picture())).log().div(3).softmax(0)
    best = prediction.indices[0]
    assert prediction.probabilities[0] == pytest.approx(expected[best].item(), rel=1e-3)
    told: list[float] = []
    raw = classifier.class_maps(prediction, [best]).raw[0]
    (found,) = classifier.evidence(picture(), best, {"grad-cam": raw}, progress=told.append).values()
    assert found.start == pytest.approx(expected[best].item(), rel=1e-3)
    assert told[-1] == 1


def test_many_images_are_classified_as_each_alone_a_batch_at_a_time(classifier: Classifier) -> None:
    taken: list[int] = []

    def pictures() -> Iterator[Image.Image]:
        for seed in range(7):
            taken.append(seed)
            yield picture(seed)

    predictions = classifier.predict_many(pictures(), top=2, batch=3)
    first = next(predictions)
    assert taken == [0, 1, 2]  # no more are in memory
    for seed, found in enumerate([first, *predictions]):
        alone = classifier.predict(picture(seed), top=2)
        assert found.classes == alone.classes
        assert found.probabilities == pytest.approx(alone.probabilities, rel=1e-4)
        assert found.attention == AttentionMaps()


def test_how_a_picture_was_read_is_told_with_its_prediction(classifier: Classifier, tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16)[None].repeat(32, axis=0) * 16
    Image.fromarray(ramp).save(tmp_path / "twelve-bits.png")
    prediction = classifier.predict(open_image(tmp_path / "twelve-bits.png"))
    scaled = "The picture uses 12 of its 16 bits and was scaled accordingly."
    assert prediction.warnings == [scaled, *classifier.predict(picture()).warnings]
