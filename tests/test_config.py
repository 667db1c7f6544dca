import dataclasses
import json
import math
import re
from typing import Any

import pytest

from resnet_space.common.errors import UserError
from resnet_space.config import ModelConfig, RunConfig, TrainConfig
from resnet_space.models import list_models
from resnet_space.models.registry import few

MODEL = ModelConfig(architecture="resnet20", classes=("cat", "dog"), options={"cbam": "stage"}, mean=(0.1, 0.2, 0.3))
TRAINING = TrainConfig(dataset="cifar10-mini", start="an-earlier-run", epochs=3, head_lr=0.5, flip=False, seed=7)


def is_one_sentence(message: str) -> bool:
    """Starts with a capital letter, ends with the only full stop that is not inside a number or a name."""
    return re.fullmatch(r"[A-Z][^\n]*\.", message) is not None and not re.search(r"[.!?]\s", message)


@pytest.mark.parametrize(
    ("entry", "value", "named", "allowed"),
    [
        ("backbone_lr", 0, "backbone's learning rate must be…not 0.", "above 0 and at most 10"),
        ("backbone_lr", 0.0, "backbone's learning rate must be…not 0.0.", "above 0 and at most 10"),
        ("backbone_lr", -1, "backbone's learning rate must be…not -1.", "above 0 and at most 10"),
        ("backbone_lr", math.nan, "backbone's learning rate must be…not nan.", "above 0 and at most 10"),
        ("backbone_lr", math.inf, "backbone's learning rate must be…not inf.", "above 0 and at most 10"),
        ("backbone_lr", -math.inf, "backbone's learning rate must be…not -inf.", "above 0 and at most 10"),
        ("backbone_lr", 10.1, "backbone's learning rate must be…not 10.1.", "above 0 and at most 10"),
        ("backbone_lr", None, "backbone's learning rate must be…not None.", "above 0 and at most 10"),
        ("backbone_lr", True, "backbone's learning rate must be…not True.", "above 0 and at most 10"),
        ("backbone_lr", "0.1", "backbone's learning rate must be…not '0.1'.", "above 0 and at most 10"),
        pytest.param(
            "backbone_lr",
            10**400,
            "backbone's learning rate must be…not 1",
            "above 0 and at most 10",
            id="10 to the 400",
        ),
        ("head_lr", 0, "head's learning rate must be…not 0.", "above 0 and at most 10"),
        ("head_lr", -1, "head's learning rate must be…not -1.", "above 0 and at most 10"),
        ("head_lr", math.nan, "head's learning rate must be…not nan.", "above 0 and at most 10"),
        ("head_lr", math.inf, "head's learning rate must be…not inf.", "above 0 and at most 10"),
        ("epochs", 0, "number of epochs must be…not 0.", "a whole number from 1 to 1,000"),
        ("epochs", 1.5, "number of epochs must be…not 1.5.", "a whole number from 1 to 1,000"),
        ("epochs", 2.0, "number of epochs must be…not 2.0.", "a whole number from 1 to 1,000"),
        ("epochs", True, "number of epochs must be…not True.", "a whole number from 1 to 1,000"),
        ("epochs", 1_001, "number of epochs must be…not 1001.", "a whole number from 1 to 1,000"),
        ("epochs", "10", "number of epochs must be…not '10'.", "a whole number from 1 to 1,000"),
        ("epochs", None, "number of epochs must be…not None.", "a whole number from 1 to 1,000"),
        ("batch_size", 1, "batch size must be…not 1.", "a whole number from 2 to 4,096"),
        ("batch_size", 4_097, "batch size must be…not 4097.", "a whole number from 2 to 4,096"),
        ("warmup", -0.1, "warm-up fraction must be…not -0.1.", "from 0 to 1"),
        ("warmup", 1.1, "warm-up fraction must be…not 1.1.", "from 0 to 1"),
        ("momentum", 1, "momentum must be…not 1.", "from 0 to 0.999"),
        ("weight_decay", -1e-4, "weight decay must be…not -0.0001.", "from 0 to 1"),
        ("weight_decay", math.nan, "weight decay must be…not nan.", "from 0 to 1"),
        ("label_smoothing", 1, "label smoothing must be…not 1.", "from 0 to 0.9"),
        ("crop_padding", -1, "crop padding must be…not -1.", "a whole number from 0 to 64"),
        ("strategy", "magic", "strategy must be…not 'magic'.", "one of full, scratch, linear-probe"),
        ("layer_decay", 0, "layer decay must be…not 0.", "from 0.1 to 1"),
        ("optimizer", "adam", "optimizer must be…not 'adam'.", "one of sgd, adamw"),
        ("schedule", "step", "schedule must be…not 'step'.", "one of cosine, one-cycle, plateau, constant"),
        ("mixup", -1, "MixUp's alpha must be…not -1.", "from 0 to 10"),
        ("cutmix", math.nan, "CutMix's alpha must be…not nan.", "from 0 to 10"),
        ("clip_norm", -1, "gradient clipping norm must be…not -1.", "from 0 to 1e+06"),
        ("ema", 1, "decay of the moving average must be…not 1.", "from 0 to 0.99999"),
        ("patience", -1, "patience must be…not -1.", "a whole number from 0 to 1,000"),
        ("crop", "centre", "crop must be…not 'centre'.", "one of padded, resized"),
        ("min_crop_area", 0, "minimum crop area must be…not 0.", "from 0.01 to 1"),
        ("dataset_revision", "", "dataset's revision must be…not ''.", "a name"),
        ("dataset_config", 3, "dataset's configuration must be…not 3.", "a name"),
        ("flip", 1, "Flip must be…not 1.", "true or false"),
        ("flip", "yes", "Flip must be…not 'yes'.", "true or false"),
        ("validation_fraction", 0, "validation fraction must be…not 0.", "above 0 and at most 0.5"),
        ("validation_fraction", 0.6, "validation fraction must be…not 0.6.", "above 0 and at most 0.5"),
        ("seed", -1, "seed must be…not -1.", "a whole number from 0 to 2,147,483,647"),
        ("seed", 0.5, "seed must be…not 0.5.", "a whole number from 0 to 2,147,483,647"),
        ("precision", "float16", "precision must be…not 'float16'.", "auto, float32, bfloat16"),
        ("start", 5, "starting weights must be…not 5.", "the name of a run"),
        ("dataset", "", "No dataset is named", "choose one"),
        ("dataset", None, "No dataset is named", "choose one"),
    ],
)
def test_a_bad_training_value_is_named_with_what_is_allowed(entry: str, value: Any, named: str, allowed: str) -> None:
    with pytest.raises(UserError) as caught:
        dataclasses.replace(TRAINING, **{entry: value})
    message = str(caught.value)
    assert all(words in message for words in named.split("…"))
    assert allowed in message
    assert is_one_sentence(message), message


@pytest.mark.parametrize(
    ("entry", "value", "named", "allowed"),
    [
        ("architecture", "resnet19", "architecture must be…not 'resnet19'.", few(list_models())),
        ("architecture", None, "architecture must be…not None.", few(list_models())),
        ("architecture", ["resnet20"], "architecture must be…not ['resnet20'].", few(list_models())),
        ("stem", "large", "stem must be…not 'large'.", "cifar for resnet20"),
        ("stem", "imagenet", "stem must be…not 'imagenet'.", "cifar for resnet20"),
        ("patch", 4, "The option patch does not exist for resnet20:", "choose from stem, cbam, shortcut"),
        ("cbam", "everywhere", "CBAM option must be…not 'everywhere'.", "None, stage, block"),
        ("cbam", True, "CBAM option must be…not True.", "None, stage, block"),
        ("shortcut", "skip", "shortcut must be…not 'skip'.", "pad, projection, none"),
        ("image_size", 7, "image size must be…not 7.", "a whole number from 8 to 1,024"),
        ("image_size", 1_025, "image size must be…not 1025.", "a whole number from 8 to 1,024"),
        ("image_size", 32.0, "image size must be…not 32.0.", "a whole number from 8 to 1,024"),
        ("classes", (), "needs at least two classes", "each with a name"),
        ("classes", ("cat",), "needs at least two classes", "each with a name"),
        ("classes", ("cat", ""), "needs at least two classes", "each with a name"),
        ("classes", ("cat", 1), "needs at least two classes", "each with a name"),
        ("classes", "cat", "needs at least two classes", "each with a name"),
        ("mean", (0.5, 0.5), "mean must be…not (0.5, 0.5).", "three numbers"),
        ("mean", 0.5, "mean must be…not 0.5.", "three numbers"),
        ("mean", (math.nan, 0.5, 0.5), "mean must be…not (nan, 0.5, 0.5).", "three numbers"),
        ("std", (0.2, "0.2", 0.2), "standard deviation must be…not (0.2, '0.2', 0.2).", "three numbers"),
        ("std", (0.2, math.inf, 0.2), "standard deviation must be…not (0.2, inf, 0.2).", "three numbers"),
        ("std", (0.2, 0.0, 0.2), "standard deviation must be…not (0.2, 0.0, 0.2).", "above 0"),
        ("std", (0.2, -0.2, 0.2), "standard deviation must be…not (0.2, -0.2, 0.2).", "above 0"),
    ],
)
def test_a_bad_model_value_is_named_with_what_is_allowed(entry: str, value: Any, named: str, allowed: str) -> None:
    own = entry in (*MODEL.options, "patch")
    changed = {"options": {**MODEL.options, entry: value}} if own else {entry: value}
    with pytest.raises(UserError) as caught:
        dataclasses.replace(MODEL, **changed)
    message = str(caught.value)
    assert all(words in message for words in named.split("…"))
    assert allowed in message
    assert is_one_sentence(message), message


@pytest.mark.parametrize(
    "values",
    [
        {"backbone_lr": 10, "head_lr": 1e-9},
        {"epochs": 1, "batch_size": 2},
        {"epochs": 1_000, "batch_size": 4_096},
        {"warmup": 0, "momentum": 0, "weight_decay": 0, "label_smoothing": 0, "crop_padding": 0},
        {"warmup": 1.0, "momentum": 0.999, "weight_decay": 1, "label_smoothing": 0.9, "crop_padding": 64},
        {"validation_fraction": 0.5, "seed": 2**31 - 1, "start": None},
    ],
)
def test_values_at_the_ends_of_their_ranges_are_allowed(values: dict[str, Any]) -> None:
    changed = dataclasses.replace(TRAINING, **values)
    assert {entry: getattr(changed, entry) for entry in values} == values


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 20, 32, 44, 56, 110])
def test_only_the_large_architectures_have_the_imagenet_stem(depth: int) -> None:
    model = ModelConfig(architecture=f"resnet{depth}", classes=("cat", "dog"))
    if depth in (18, 34, 50, 101, 152):
        assert model.with_options(stem="imagenet").options["stem"] == "imagenet"
    else:
        with pytest.raises(UserError, match=f"The stem must be cifar for resnet{depth}, not 'imagenet'"):
            model.with_options(stem="imagenet")


def test_a_configuration_survives_json_unchanged() -> None:
    config = RunConfig(MODEL, TRAINING)
    again = RunConfig.from_json(json.loads(json.dumps(config.to_json())))
    assert again == config
    assert hash(again) == hash(config)  # lists became tuples again


def test_what_json_leaves_out_takes_its_default() -> None:
    data = {"model": {"architecture": "resnet56", "classes": ["a", "b"]}, "training": {"dataset": "cifar10-mini"}}
    assert RunConfig.from_json(data) == RunConfig(
        ModelConfig(architecture="resnet56", classes=("a", "b")),
        TrainConfig(dataset="cifar10-mini", grouped_split=False),  # it is of a time when all splits were drawn
    )


@pytest.mark.parametrize("data", [None, [], "model", 5, [{"model": {}}]])
def test_a_configuration_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(UserError, match=r"^A configuration must be a JSON object\.$"):
        RunConfig.from_json(data)


@pytest.mark.parametrize("parts", [(), ("model",), ("training",), ("model", "training", "extra")])
def test_a_configuration_with_other_parts_is_refused(parts: tuple[str, ...]) -> None:
    whole = RunConfig(MODEL, TRAINING).to_json() | {"extra": {}}
    with pytest.raises(UserError, match='exactly two parts, "model" and "training"') as caught:
        RunConfig.from_json({part: whole[part] for part in parts})
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize("part", ["model", "training"])
@pytest.mark.parametrize("value", [None, [], "resnet20", 3])
def test_a_part_that_is_no_object_is_refused_by_name(part: str, value: object) -> None:
    data = RunConfig(MODEL, TRAINING).to_json() | {part: value}
    with pytest.raises(UserError, match=f'^The part "{part}" must be a JSON object\\.$'):
        RunConfig.from_json(data)


@pytest.mark.parametrize("part", ["model", "training"])
def test_unknown_entries_are_all_named(part: str) -> None:
    data = RunConfig(MODEL, TRAINING).to_json()
    data[part] |= {"zeal": 1, "colour": "red"}
    with pytest.raises(UserError, match=f'The part "{part}" has unknown entries: colour, zeal') as caught:
        RunConfig.from_json(data)
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize(("part", "entry"), [("model", "architecture"), ("model", "classes"), ("training", "dataset")])
def test_a_missing_entry_is_named(part: str, entry: str) -> None:
    data = RunConfig(MODEL, TRAINING).to_json()
    del data[part][entry]
    with pytest.raises(UserError, match=f"The part \"{part}\" is incomplete: .*'{entry}'") as caught:
        RunConfig.from_json(data)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("part", "entry", "value"),
    [
        ("training", "epochs", 0),
        ("training", "backbone_lr", math.nan),
        ("training", "flip", {}),
        ("model", "architecture", {}),
        ("model", "architecture", ["resnet20"]),
        ("model", "classes", {"cat": 0, "dog": 1}),
        ("model", "classes", [["cat"], ["dog"]]),
        ("model", "mean", None),
    ],
)
def test_a_bad_value_in_json_is_a_config_error_too(part: str, entry: str, value: object) -> None:
    data = RunConfig(MODEL, TRAINING).to_json()
    data[part][entry] = value
    with pytest.raises(UserError):
        RunConfig.from_json(json.loads(json.dumps(data)))
