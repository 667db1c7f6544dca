"""The queue of a review, and what is said of before and after."""

from dataclasses import replace

import numpy as np
from scipy import stats

from resnet_space.data.checks.items import LabelIssue, NearDuplicate, Outlier
from resnet_space.data.decisions import PictureDecision
from resnet_space.training.data_report import DataReport
from resnet_space.training.evaluation import paired_interval
from resnet_space.training.review import BeforeAfter, review_queue

LABEL = LabelIssue("train", 3, "3.png", "cat", 0.97, "dog")
COPY = NearDuplicate("test", 5, "5.png", "cat", 0.99, True, "train", 7, "7.png", "cat")
ODD = Outlier("train", 9, "9.png", "cat", 1.4, "blurred")
REPORT = DataReport(dataset="d", label_issues=(LABEL,), near_duplicates=(COPY,), outliers=(ODD,))


def test_the_queue_has_labels_then_copies_then_odd_pictures_with_what_each_suggests() -> None:
    queue = review_queue(REPORT)
    assert [one.id for one in queue] == ["label:train:3", "copy:test:5", "odd:train:9"]
    assert [one.words for one in queue] == [LABEL.words, COPY.words, ODD.words]
    label, copy, odd = (one.suggestion() for one in queue)
    assert label == PictureDecision("train", 3, "relabel", "dog", "3.png", finding=LABEL.words, score=0.97)
    assert copy is not None
    assert (copy.action, copy.of_split, copy.of_index) == ("same", "train", 7)
    assert odd is None
    assert review_queue(replace(REPORT, label_issues=(), near_duplicates=(), outliers=())) == []


def test_the_paired_interval_covers_the_true_difference_and_shrinks_with_the_pictures() -> None:
    random = np.random.default_rng(0)
    for n, gained, lost in ((150, 0.06, 0.02), (150, 0.03, 0.03), (40, 0.2, 0.1)):
        counts = random.multinomial(n, [gained, lost, 1 - gained - lost], 2_000)
        intervals = [paired_interval(int(up), int(down), n) for up, down, _ in counts]
        covered = np.mean([low <= gained - lost <= high for low, high in intervals])
        assert 0.93 <= covered <= 0.99
    differences = np.repeat([1, -1, 0], [600, 200, 9_200])
    half = stats.norm.ppf(0.975) * differences.std(ddof=1) / len(differences) ** 0.5
    np.testing.assert_allclose(paired_interval(600, 200, 10_000), (0.04 - half, 0.04 + half), atol=1e-4)
    low, high = paired_interval(3, 3, 100)
    assert low == -high


def test_the_difference_is_said_with_its_interval_and_honestly() -> None:
    found = BeforeAfter(dataset="v2", images=1_000, before=900, after=908, gained=20, lost=12)
    low, high = (100 * end for end in found.interval)
    assert low < 0 < high
    assert found.words == (
        "Test accuracy 90.0 % before, 90.8 % after, on the same 1,000 pictures: +0.8 points (95 % interval: "
        f"{low:+.1f} to {high:+.1f}). That includes zero: no difference can be told."
    )
    clear = replace(found, after=940, gained=42, lost=2)
    assert "includes zero" not in clear.words
    assert clear.to_json()["words"] == clear.words
    assert replace(clear, test_cleaned=True).words.endswith(
        "The test pictures have their new labels, so it cannot be compared with other results."
    )
    assert BeforeAfter(dataset="v2").words == ""
    assert BeforeAfter(dataset="v2", source="v1").datasets == ("v2", "v1")  # both stay while it runs
